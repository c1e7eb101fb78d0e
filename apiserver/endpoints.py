"""What every server tells about itself: health, metrics, version; on its API port and on a plain port for probes."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from apimachinery import codec
from apimachinery.options import Query, parse_query
from apimachinery.types import Object
from apiserver import metrics
from apiserver.health import HealthChecks

HEALTH_PATHS = ("/healthz", "/livez", "/readyz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """`version` is the document of `/version`."""

    health: HealthChecks
    collectors: CollectorRegistry
    version: Object

    def respond(self, path: str, query: Query) -> Response | None:
        """The answer to a GET of one of these paths; None for any other."""
        if path == "/version":
            return indented(self.version)
        if path == "/metrics":
            body, media_type = metrics.render(self.collectors)
            return Response(body, headers={"content-type": media_type})
        endpoint, _, check = path.removeprefix("/").partition("/")
        if f"/{endpoint}" not in HEALTH_PATHS:
            return None
        code, text = self.health.respond(endpoint, check, query)
        return PlainTextResponse(text, code, headers={"x-content-type-options": "nosniff"})


def indented(document: Object) -> Response:
    """Raw documents are indented and end without a newline (aggregator.md 7.4)."""
    body = codec.encode_json(document, pretty=True).rstrip(b"\n")
    return Response(body, headers={"content-type": "application/json"})


def plain_app(endpoints: Endpoints) -> ASGIApp:
    """An application for a port without TLS: metrics, health and version, nothing else."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        response: Response | None = None
        if request.method not in ("GET", "HEAD"):
            response = PlainTextResponse("405 method not allowed\n", 405, headers={"allow": "GET, HEAD"})
        else:
            query = parse_query(scope["query_string"])
            response = endpoints.respond(scope["path"], query)
        if response is None:
            response = PlainTextResponse("404 page not found\n", 404)
        await response(scope, receive, send)

    return app
