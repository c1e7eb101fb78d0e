"""The ASGI application of a server: identity, authorization and deadlines in front of documents and verbs."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apimachinery import authorization, codec, status
from apimachinery.authorization import ANONYMOUS_USER, Authorizer
from apimachinery.identity import User
from apimachinery.options import Query, first, parse_go_duration, parse_query
from apimachinery.request_info import RequestInfo, is_long_running, parse_request_info
from apiserver import logs
from apiserver.asgi import AbortResponse
from apiserver.auth.later import decided
from apiserver.documents import Answer, DocumentSource
from apiserver.endpoints import HEALTH_PATHS, Endpoints, indented
from apiserver.metrics import ServerMetrics
from apiserver.registry import Registry
from apiserver.rest import respond
from apiserver.rest.dispatch import Dispatcher, Verbs, asked_of, not_found_page
from apiserver.zipped import ZippedDocuments

_DEADLINE_SECONDS = 60.0
"""Longest time for a request that is not a watch (aggregator.md 8.7)."""
_AUDIT_ID_LIMIT = 64
_INDENTED_BYTES = 256 * 1024
_OWN_PATHS = ("/apis", "/metrics", "/openapi/v2", "/openapi/v3", "/version")

log = logs.get("apiserver")

Authenticate = Callable[[Scope], User | None]
"""Who makes the request; None without credentials, APIError 401 for bad ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppConfig:
    """Everything an application is put together from."""

    registry: Registry
    verbs: Verbs
    authenticate: Authenticate
    authorizer: Authorizer
    endpoints: Endpoints
    metrics: ServerMetrics
    documents: Sequence[DocumentSource] = ()
    """Sources of discovery and OpenAPI documents, asked in order."""
    paths: Callable[[], Sequence[str]] = tuple
    """Paths of the documents, for the list at `/`."""
    installed: Callable[[], bool] = field(default=lambda: True)
    """Whether all paths are known; until then an unknown path is 503, not 404 (aggregator.md 2.6)."""


def build_app(config: AppConfig) -> ASGIApp:
    """The application; pure assembly, nothing is started."""
    return _App(config)


class _App:
    def __init__(self, config: AppConfig) -> None:
        self._config = config
        self._dispatch = Dispatcher(config.registry, config.verbs)
        self._zipped = ZippedDocuments()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "not supported"})
            return
        if scope["type"] != "http":
            return
        exchange = _Exchange(Request(scope, receive), send)
        started = time.perf_counter()
        self._config.metrics.in_flight(exchange.mutating, 1)
        try:
            await self._serve(exchange)
        finally:
            self._config.metrics.in_flight(exchange.mutating, -1)
            seconds = time.perf_counter() - started
            # What has succeeded need not be looked for.
            served = exchange.code < 400 or exchange.info is None or self._dispatch.serves(exchange.info)
            self._config.metrics.observe(exchange.info, exchange.code, seconds, served=served)
            if log.enabled(logging.DEBUG):
                log.debug(
                    "request",
                    audit_id=exchange.audit_id,
                    method=exchange.request.method,
                    path=exchange.path,
                    user=exchange.user.name,
                    code=exchange.code,
                    seconds=round(seconds, 6),
                )

    async def _serve(self, exchange: "_Exchange") -> None:
        """The error boundary: every failure becomes a Status, unless the answer has begun."""
        try:
            response = await self._answer(exchange)
        except status.APIError as error:
            response = respond.failure(exchange.asked, error)
            if error.code >= 500:
                # Others than internal errors answer what was asked, such as a malformed resourceVersion: no client may
                # fill the log.
                tell = log.warning if error.reason == "InternalError" else log.debug
                tell("request failed", audit_id=exchange.audit_id, code=error.code, error=error.message)
        except ClientDisconnect:
            # An upload broke off: nobody is left to be told, and nothing of ours has failed.
            raise AbortResponse from None
        except Exception as error:
            log.exception("request failed", audit_id=exchange.audit_id, error=repr(error))
            response = respond.failure(exchange.asked, status.internal_error("the server failed, see its log"))
        response.headers["audit-id"] = exchange.audit_id
        if "cache-control" not in response.headers:
            response.headers["cache-control"] = "no-cache, private"
        await response(exchange.request.scope, exchange.request.receive, exchange.send)

    async def _answer(self, exchange: "_Exchange") -> Response:
        request = exchange.request
        try:
            exchange.info = info = parse_request_info(request.method, exchange.path, exchange.query)
        except ValueError as error:
            raise status.bad_request(f"failed to create RequestInfo: {error}") from None
        known = self._config.authenticate(request.scope)
        if known is None and not self._config.authorizer.anonymous_on(info.path):
            raise status.unauthorized()
        exchange.user = user = known or ANONYMOUS_USER
        await self._authorize(user, info)
        if is_long_running(info):
            return await self._route(exchange, info, user)
        seconds = _deadline(exchange.query)
        if not info.is_resource:
            # Documents are at hand, and a timer would cost more than looking one up.
            return await self._route(exchange, info, user)
        try:
            async with asyncio.timeout(seconds):
                return await self._route(exchange, info, user)
        except TimeoutError:
            raise status.timeout("request did not complete within the allotted timeout") from None

    async def _authorize(self, user: User, info: RequestInfo) -> None:
        """APIError 403 when the user may not; 500 when that could not be found out."""
        authorizer = self._config.authorizer
        if authorization.privileged(authorizer, user):
            return
        decision = await decided(authorizer, user, info)
        if not decision.allowed:
            raise authorization.refused(user, info, decision)

    async def _route(self, exchange: "_Exchange", info: RequestInfo, user: User) -> Response:
        request = exchange.request
        if info.is_resource:
            response = await self._dispatch(request, info, user, exchange.query)
        else:
            response = await self._document(exchange)
        if response.status_code == 404 and not self._config.installed():
            raise status.paths_not_installed()
        return response

    async def _document(self, exchange: "_Exchange") -> Response:
        request = exchange.request
        path = exchange.path
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("405 method not allowed\n", 405, headers={"allow": "GET, HEAD"})
        if path in ("/", "/index.html"):
            return indented({"paths": self._paths()})
        # Some clients write `/version/`.
        known = self._config.endpoints.respond(path.removesuffix("/"), exchange.query)
        if known is not None:
            return known
        query = request.scope["query_string"].decode("latin-1")
        target = f"{path}?{query}" if query else path
        accept, match = exchange.asked.accept, request.headers.get("if-none-match", "")
        for source in self._config.documents:
            answer = source.respond(target, accept, match)
            if answer is not None:
                shown = _indented(answer) if exchange.asked.pretty else answer
                return _response(await self._zipped.answer(shown, exchange.asked.accept_encoding))
        return not_found_page()

    def _paths(self) -> list[str]:
        return sorted({*self._config.paths(), *HEALTH_PATHS, *_OWN_PATHS})


class _Exchange:
    """One request on its way: what is known so far, for the error boundary, the log and the metrics."""

    def __init__(self, request: Request, send: Send) -> None:
        self.request = request
        # Starlette would put a URL together and take it apart again for this.
        self.path: str = request.scope["path"]
        self.query: Query = parse_query(request.scope["query_string"])
        self.asked = asked_of(request, self.query)
        self.audit_id = audit_id(request.headers)
        self.info: RequestInfo | None = None
        self.user = ANONYMOUS_USER
        self.code = 0
        self.mutating = request.method not in ("GET", "HEAD", "OPTIONS")
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.code = message["status"]
        await self._send(message)


def _deadline(query: Query) -> float:
    """Seconds that a request may take: what `timeout` asks for, within the server's own limit; APIError 400."""
    text = first(query, "timeout")
    if not text:
        return _DEADLINE_SECONDS
    try:
        asked = parse_go_duration(text)
    except ValueError as error:
        raise status.bad_request(f"invalid timeout specified in the request URL - {error}") from None
    return min(asked, _DEADLINE_SECONDS) if asked > 0 else _DEADLINE_SECONDS


def audit_id(headers: Mapping[str, str]) -> str:
    """The client's audit id if it is usable in a log line, else a new one."""
    given = headers.get("audit-id", "")
    if given and len(given) <= _AUDIT_ID_LIMIT and given.isascii() and given.isprintable():
        return given
    return str(uuid.uuid4())


def _indented(answer: Answer) -> Answer:
    """The same for a person who reads it. What is too large to be read stays as it is: indenting holds up others."""
    if answer.code != 200 or len(answer.body) > _INDENTED_BYTES:
        return answer
    if not answer.headers["content-type"].startswith(codec.JSON):
        return answer
    return answer._replace(body=codec.encode_json(orjson.loads(answer.body), pretty=True))


def _response(answer: Answer) -> Response:
    return Response(answer.body, status_code=answer.code, headers=answer.headers)
