"""What is recorded of the requests that pass the proxy: audit log, access log, traces.

The proxy tells `aggregator.proxy.observer` of each request; the modules here turn that into lines and spans, away from
the event loop. Is not: metrics (those are counted in the proxy itself), nor the program's own log.
"""
