"""Grafana dashboards as files, in the conventions of Ray's own.

generate  makes the two JSON files from the table of measurements
"""
