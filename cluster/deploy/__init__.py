"""What other programs get. Nothing here runs in a pool.

grafana     dashboards
prometheus  alert rules, scrape settings, PromQL for the dashboards
rabbitmq    settings of a server
kuberay     a pool on Kubernetes
spot        drains the node of a machine that its cloud takes back
local.yaml  a cluster of machines of one's own, for `ray up`
install     what `make` runs first
"""
