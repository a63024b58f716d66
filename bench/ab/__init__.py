"""`python -m bench.ab BASE BENCH`: two commits compared with one bench, in rounds that take turns on one node.

`rules` decides (statistics, when to stop, verdict), `plans` says what one round of a bench is and which figures come
out of it, `sides` makes a worktree and an environment for each commit, `measure` runs a round of both, each in a
process of its own, `processes` counts the CPU of its processes, `report` is what is printed. `rounds` is the only file
that runs with the code under test: in a side's worktree, by its interpreter. Nothing else here imports that code.
"""
