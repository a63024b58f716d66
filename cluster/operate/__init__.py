"""Looks at a pool and its surroundings, for the commands.

running_pool  reaches the actors of a pool by name
status        healthy, degraded or not, and why
dashboard     `rabbitray top`
local_usage   CPU and memory of our processes on this machine
doctor        `rabbitray check`
preflight     what `run` looks at before Ray is started
doctor_ray    the part of it that needs Ray
"""
