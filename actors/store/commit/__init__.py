"""One write: many calls, one transaction.

group_commit  gathers calls for a few milliseconds
writer        the commit thread
instance      its connection: opened, watched, lost, opened again
call_slice    the rows of one call in one transaction
transaction   the one permitted transaction
failures      the table of failed runs, kept short
records       dead letters, decisions, control, epochs
"""
