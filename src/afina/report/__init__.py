"""What a person reads after a run: an HTML page and a model card, made from the run's folder alone."""
