"""The aggregator program: a proxy in front of upstreams, the first of which is its own API server.

`proxy` is the data plane, `api` the local API server's kinds and controllers, `upstream` what both share to reach a
backend. `proxy` and `api` do not import each other; only `aggregator.app` puts everything together.
"""
