"""Language models: finding, loading and building them, their tokenizers and heads."""
