"""Why nothing is consumed for a while, other than because somebody asked for it. Runs in the router's process.

outage       when one transient error dominates: hold, and probe
probes       when probes go out, and how many at a time
vanished     queues of ours that were there and are gone: what they held, and what is confirmed
queue_watch  looks at their depths, finds what is gone, and declares it anew or lets the pool wait
"""
