"""The data plane: authenticate, authorize, route, rewrite headers, forward bytes.

Pure parts: `routes`, `headers`, `target`, `decide`. Shells: `downstream` and `upstream_conn` (one class per side of a
proxied HTTP/1.1 connection), `pool`, `http2`, `learner`, `server`. It knows no kind of object beyond what a route needs,
and never imports `aggregator.api`; it may import `aggregator.upstream`, `apiserver` and `apimachinery`.
"""
