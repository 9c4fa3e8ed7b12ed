"""Files to tables, tables to splits: reading, choosing columns, cleaning, splitting, corpora."""
