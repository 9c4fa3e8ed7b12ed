"""How the model may change: one method a file, named after it; `_name.py` files are no methods."""
