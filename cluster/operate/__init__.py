"""Looks at a pool and its surroundings, for the commands.

running_pool  reaches the actors of a pool by name
looking       asks actors and broker, for one look
picture       what was seen, and the picture of it, as values
problems      healthy, degraded or not, and why
status        the picture that is made of one look
status_lines  the picture as lines for people
dashboard     `rabbitray top`
local_usage   CPU and memory of our processes on this machine
doctor        `rabbitray check`
pools_broker  the broker of a command on a node that knows of none
preflight     what `run` looks at before Ray is started
doctor_ray    the part of it that needs Ray
"""
