"""What watches a build that is served: Prometheus' scrape configuration, recording rules and alerts, and a dashboard for Grafana.

Texts from a plan and some addresses, pure. *Not here:* running Prometheus (recsplit.serving), and reading from it
(recsplit_controller.observe).
"""
