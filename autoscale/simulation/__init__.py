"""The same policy over a recorded or an imagined load, in virtual time. Pure.

loads      1. what arrives, and when
simulate   2. the pool in virtual time
baselines  3. the rules of other autoscalers
ideal      4. a schedule that knows the load
compare    5. rows, tables, a plot
"""
