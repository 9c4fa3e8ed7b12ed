"""What to learn: one task a file, named after it; `_name.py` files are no tasks."""
