"""Grafana dashboards as files, in Ray's conventions, made from the table of measurements by `making`."""
