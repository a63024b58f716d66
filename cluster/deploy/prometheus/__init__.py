"""Prometheus files as operators take them: `alerts.yml`, made from the table of measurements, and `scrape.yml`."""
