"""The demo: birthday and anniversary greetings in two waves, on real parts.

`jobs` makes the reference jobs, `handler` works them, `waves` publishes them while the pool runs, `outcome` tells
what came of it.
"""
