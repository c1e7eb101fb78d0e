"""The proxy of this project with all that a production configuration has on: identity headers, roles and bindings,
metrics, limits of requests in progress. Run as a program of its own.

wrk and h2load cannot show a client certificate, so each connection gets the identity that one would have given it: as
with a certificate, it is looked at once per connection and not per request.
"""

import argparse
import asyncio
import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import uvloop

from aggregator.observe.access_log import AccessLog
from aggregator.observe.audit import AuditLog
from aggregator.observe.audit_policy import AuditPolicy, Level, Rule, Stage, Wanted
from aggregator.observe.rotating import RotatingFile
from aggregator.proxy.limits import Limits
from aggregator.proxy.observer import Observer
from aggregator.proxy.routes import RouteTable
from aggregator.proxy.server import Proxy
from aggregator.upstream.tls import UpstreamTLS
from apimachinery.authorization import Policy
from apimachinery.identity import RequestHeaderNames, User
from apimachinery.rbac import BOOTSTRAP
from apimachinery.types import Object
from apiserver.auth import policy_file, static_tokens
from apiserver.auth.authorizer import Authorizers
from apiserver.auth.tokens import StaticTokenAuthenticator, Tokens
from apiserver.auth.watched import WatchedFile
from apiserver.tls import server_context
from bench.measure import raise_file_limit
from bench.ports import BACKEND, BACKEND_HTTP2, OURS, STREAMS, STREAMS_HTTP2

_POLICY = """
roles:
- name: bench
  rules:
  - {apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
bindings:
- {role: bench, users: [bench]}
"""
FAST = tuple(f"fast{number}.test" for number in range(1, 10))
"""Nine groups that lead to the fast backend, besides bench.test."""
_OTHERS = {"http2.test": BACKEND_HTTP2, "streams.test": STREAMS, "streams-http2.test": STREAMS_HTTP2}


class _Certificates:
    """The identity of every connection, unless they are to have tokens."""

    def __init__(self, known: bool) -> None:
        self._user = User("bench", groups=("system:authenticated",)) if known else None

    def authenticate(self, certificate: bytes | None, headers: Sequence[tuple[str, str]]) -> User | None:
        return self._user

    def reads_headers(self, certificate: bytes | None) -> bool:
        return False


def _observer(directory: Path, kind: str) -> Observer | None:
    if kind == "access":
        return Observer([AccessLog(RotatingFile(directory / "access.log"), "logfmt")])
    if kind == "audit":
        wanted = Wanted(Level.METADATA, frozenset([Stage.REQUEST_RECEIVED]))
        policy = AuditPolicy((Rule(wanted=wanted),))
        return Observer([AuditLog(policy, RotatingFile(directory / "audit.log"), body_bytes=0, queue=100_000)])
    if kind.startswith("trace="):
        from aggregator.observe.tracing import Tracer

        # Nobody listens there: what is measured is what a request costs the proxy, not the export.
        return Observer([Tracer("http://127.0.0.1:9", ratio=float(kind.removeprefix("trace=")), version="bench")])
    return None


def _tokens(file: Path | None) -> Tokens:
    if file is None:
        return Tokens()
    return Tokens([StaticTokenAuthenticator(WatchedFile(file, static_tokens.load))])


async def _run(directory: Path, arguments: argparse.Namespace) -> None:
    raise_file_limit()
    rules = BOOTSTRAP.extended(policy_file.parse(_POLICY, "policy"))
    proxy = Proxy(
        ssl_context=server_context(directory / "proxy.crt", directory / "proxy.key", [directory / "ca.crt"]),
        authenticator=_Certificates(known=arguments.token_file is None),
        tokens=_tokens(arguments.token_file),
        authorizer=Authorizers(Policy(), rules),
        request_headers=RequestHeaderNames(),
        upstream_tls=UpstreamTLS(directory / "client.crt", directory / "client.key"),
        limits=_limits(arguments),
    )
    proxy.plane.observer = _observer(directory, arguments.observe)
    ca = base64.b64encode((directory / "ca.crt").read_bytes()).decode()
    groups = dict.fromkeys(("bench.test", *FAST), BACKEND) | _OTHERS
    services = [_apiservice(group, port, ca) for group, port in groups.items()]
    proxy.plane.install(RouteTable.build(services, [_externalname()]))
    await proxy.start("127.0.0.1", arguments.port, reuse_port=arguments.reuse_port)
    stop = asyncio.Event()
    for number in (15, 2):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await proxy.stop()


def _limits(arguments: argparse.Namespace) -> Limits:
    limits = replace(Limits(), own_connections=arguments.own_connections)
    return replace(limits, max_read_only=0, max_mutating=0) if arguments.unlimited else limits


def _apiservice(group: str, port: int, ca: str) -> Object:
    service = {"namespace": "default", "name": "bench", "port": port}
    return {
        "metadata": {"name": f"v1.{group}"},
        "spec": {"group": group, "version": "v1", "caBundle": ca, "service": service},
        "status": {"conditions": [{"type": "Available", "status": "True"}]},
    }


def _externalname() -> Object:
    return {"metadata": {"namespace": "default", "name": "bench"}, "spec": {"host": "127.0.0.1"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, default=OURS)
    parser.add_argument("--reuse-port", action="store_true")
    parser.add_argument("--unlimited", action="store_true", help="no limit of requests in progress over all services")
    parser.add_argument("--own-connections", type=int, default=Limits().own_connections, help="before some are shared")
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--observe", default="")
    parser.add_argument("--token-file", type=Path, help="know clients by these tokens and not by connection")
    arguments = parser.parse_args()
    if arguments.profile is None:
        uvloop.run(_run(arguments.directory, arguments))
        return
    import cProfile

    profiler = cProfile.Profile()
    profiler.runcall(uvloop.run, _run(arguments.directory, arguments))
    profiler.dump_stats(arguments.profile)


if __name__ == "__main__":
    main()
