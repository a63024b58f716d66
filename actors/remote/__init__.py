"""What every Ray actor here shares.

boot   how a process starts its logging and telemetry; Ray's ids of it
calls  calls of actors by name; what Ray's errors say
nodes  free CPUs, nodes that are about to go
"""
