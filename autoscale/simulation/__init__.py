"""The same policy over a recorded or an imagined load, in virtual time. Pure.

In the order in which a replay passes them: `loads` (what arrives), `simulate` (the pool in virtual time),
`baselines` (the rules of others), `ideal` (a schedule that knows the load), `compare` (rows and tables).
"""
