"""PROCESS Autoscaler: how many workers, how wide a window, and why. Ray's shell is `actor`.

loop         1. looks, decides, acts, waits
queue_meter  2. how the backlog moved
policy       3. the decision (pure)
actor        carries it out, keeps the decisions
plan         how many workers a load needs, for people
simulation   the policy over a load, in virtual time
"""

if __name__ == "autoscale":  # see `actors`
    raise ImportError("in rabbitray's checkout `autoscale` is imported as `rabbitray.autoscale`")
