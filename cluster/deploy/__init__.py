"""What other programs get: Grafana dashboards, Prometheus rules, RabbitMQ's and KubeRay's settings, installation."""
