"""The data plane: authenticate, authorize, route, rewrite headers, forward bytes.

Pure parts: `routes`, `headers`, `lines`, `target`, `decide`, `wire`. Shells: `downstream` (its two halves in
`request_side` and `client_side`) and `upstream_conn`, one connection class per side; `pool`, `http2`, `learner`,
`server`. It knows no kind of object beyond what a route needs, and never imports `aggregator.api`; it may import
`aggregator.upstream`, `apiserver` and `apimachinery`.
"""
