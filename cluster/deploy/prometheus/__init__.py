"""Prometheus files as operators take them: the rules in `alerts.yml`, and `scrape.yml`; PromQL for the dashboards."""
