"""Exact dedupe whose cost stays flat as the table grows.

keys     texts -> 64-bit hashes
index    which keys have a result: filter first, then the exact look
bloom    the filter
segment  sealed ranges of rows, in side files
restore  filter and segments from the file, at the start
"""
