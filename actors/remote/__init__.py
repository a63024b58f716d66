"""What every Ray actor here shares.

boot     how a process starts its logging and telemetry; Ray's ids of it
calls    the one way to call an actor, by name too; what Ray's errors say
compat   what rests on Ray's inside: whether its GCS answers, and takes us
nodes    free CPUs, nodes that are about to go
threads  a thread for Ray's calls that block
"""
