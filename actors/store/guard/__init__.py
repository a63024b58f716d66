"""What a statement from outside may do: decided from what DuckDB parsed, never from its text.

functions  the functions that may be called
tree       what a parse tree names, and what may stand in one
catalog    the tables, views and macros of an open file
parsing    one statement -> its kind, its tree, the text to run
statement  the door: one statement in, the text to run out, or QueryError
"""
