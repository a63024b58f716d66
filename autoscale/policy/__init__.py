"""How many workers, and how wide a window. Pure: memory goes in and comes out.

signals  what is seen, what is decided
rates    speed and arrivals from samples
demand   workers from backlog, arrivals and speed
brakes   what holds a wish back
sizing   the decision
window   prefetch and batch size
"""
