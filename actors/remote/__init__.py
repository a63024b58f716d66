"""What every Ray actor here shares.

boot     how a process starts its logging and telemetry; Ray's ids of it
compat   what rests on Ray's inside, and on the wording of its errors
calls    the one way to call an actor, by name too; what Ray's errors say
gcs      whether a Ray answers, and takes this process
inline   how much one call carries by itself
nodes    what each node has and has free, nodes that are about to go
node_versions  which Ray and Python each node has
placement  what a worker asks for, and how many fit (pure)
raylets  which nodes give an answer
threads  a thread for Ray's calls that block
"""
