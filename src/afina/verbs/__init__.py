"""What afina does: one verb a file, at once the Python function and the command."""
