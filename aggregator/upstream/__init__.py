"""Reaching a backend: where it is, how its TLS is verified, and one-shot requests to it.

Shared by the data plane and by the local API server's probes and discovery. Holds no pool (that is `proxy.pool`) and
decides nothing about availability. May import `apiserver` and `apimachinery`.
"""
