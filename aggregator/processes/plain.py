"""The plain port of a program in several processes: metrics of all of them, health of the whole."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from aggregator.processes import sums
from aggregator.processes.sums import Snapshot
from apimachinery.options import parse_query
from apiserver import endpoints, http1
from apiserver.endpoints import HEALTH_PATHS, Endpoints

_IDENTITY = (("X-Remote-User", "system:aggregator-supervisor"), ("X-Remote-Group", "system:masters"))
_ANSWER_SECONDS = 2.0
_ANSWER_BYTES = 1024 * 1024
_NOT_RUNNING = "internal server error: the API server is not running\n"


async def health(own: Endpoints, api: http1.Target, path: str, query: str) -> Response:
    """What the API server says about itself. It is asked only when the supervisor finds no fault; a program whose API
    server is being started again is alive, but not ready."""
    parsed = parse_query(query.encode())
    endpoint, _, check = path.removeprefix("/").partition("/")
    code, text = own.health.respond(endpoint, "", parsed)
    if code == 200:
        try:
            answer = await http1.request(
                api,
                "GET",
                f"{path}?{query}" if query else path,
                _IDENTITY,
                timeout=_ANSWER_SECONDS,
                max_body=_ANSWER_BYTES,
            )
        except http1.HTTPClientError:
            if endpoint != "livez" or check:
                code, text = 500, _NOT_RUNNING
        else:
            code, text = answer.status, answer.body.decode(errors="replace")
    return PlainTextResponse(text, code, headers={"x-content-type-options": "nosniff"})


def plain_app(own: Endpoints, socket: Path, gather: Callable[[], Awaitable[Snapshot]]) -> ASGIApp:
    """As the plain port of one process, without a word of where what comes from."""
    single = endpoints.plain_app(own)
    api = http1.Target(unix_path=socket)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            path = Request(scope).url.path
            response: Response | None = None
            if path == "/metrics":
                body, media_type = sums.render(await gather())
                response = Response(body, headers={"content-type": media_type})
            elif path.startswith(HEALTH_PATHS):
                response = await health(own, api, path, scope["query_string"].decode("latin-1"))
            if response is not None:
                await response(scope, receive, send)
                return
        await single(scope, receive, send)

    return app
