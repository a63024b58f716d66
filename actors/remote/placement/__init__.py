"""What a worker asks of Ray, and how many of them a cluster has room for. Pure.

kind  WorkerKind: resources, labels and environment of one worker
read  the texts of the settings as values of a kind
room  whole bundles on single nodes: how many fit, what is short, what no node can ever have
"""
