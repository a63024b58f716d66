"""The program `rabbitray` and its terminal.

app           the commands, errors as one line, exit codes
errors        what is said of an error, without secrets, and the exit code
options       options made of the settings
durations     `90s`, `15m`, `2h`, `7d`
tables        results as a table, CSV, JSON, Parquet
values        cells of an Arrow table as plain values
terminal      the edge to people: everything printable
progress_bar  for commands that take long
version       which rabbitray this is
keyboard      single keys, for `rabbitray top`
"""
