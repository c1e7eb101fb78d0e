"""The group version that this server serves."""

GROUP = "example.grafana.app"
VERSION = "v0alpha1"
