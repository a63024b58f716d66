"""Prometheus files as operators take them: the rules in `alerts.yml`, and `scrape.yml`.

expressions  PromQL over the table of measurements, for the dashboards
"""
