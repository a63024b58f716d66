"""The whole spine on a virtual clock: real parts between doubles, faults at every await, judged by one checker.

script          one history as a value: steps and faults
draw            a script from a seed
shrink          a failing script made shorter
faults          which call into a double goes wrong, and how
messages        what the jobs ask of their handler
broker          queues, rungs, redelivery, delivery limit
channel         the router's connections for consuming, under the real Generation
sender          the router's publisher of copies
workers         the processes that run the handler, and their nodes
store           results, and the store process
router_process  the real parts of one router, from its start to its death
stage           the steps
world           one history from its script
checker         what must hold
kept            scripts that once found something
"""
