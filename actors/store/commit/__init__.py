"""One write: many calls, one transaction.

group_commit  gathers calls for a few milliseconds
writer        the commit thread
transaction   the one permitted transaction
records       dead letters, decisions, control, epochs
"""
