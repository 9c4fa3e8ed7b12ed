"""Training: the loop, what is wrapped around it, and the trained model as one thing."""
