"""The terminal: the program and its options, tables, keys."""
