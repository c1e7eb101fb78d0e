"""HTTP in front of the verbs: from a parsed request to a response, for every declared resource."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from apimachinery import negotiation, patch, status
from apimachinery import scale as scales
from apimachinery.identity import User
from apimachinery.options import (
    DeleteOptions,
    ListOptions,
    Query,
    WriteOptions,
    first,
    parse_bool,
    parse_delete_options,
    parse_list_options,
    parse_write_options,
)
from apimachinery.request_info import RequestInfo, split_namespace
from apimachinery.scale import ScalePaths
from apimachinery.selectors import FieldSelector
from apiserver.registry import Registry
from apiserver.resource import CreateRequest, Resource, Subresource, SubresourceRequest
from apiserver.rest import respond
from apiserver.rest.bodies import media_type_of, read_body, read_delete_options, read_object
from apiserver.rest.context import Context
from apiserver.rest.objects import check_path_name, check_virtual
from apiserver.rest.read import Reader
from apiserver.rest.remove import Remover
from apiserver.rest.respond import Asked, Responder
from apiserver.rest.scale import Scaler, Target
from apiserver.rest.tracking import decode_configuration
from apiserver.rest.watch import Watcher
from apiserver.rest.write import Writer

_ITEM_VERBS = ("update", "patch")
_READING_VERBS = ("get", "list", "watch")
_PATCH_TYPES = (patch.JSON_PATCH, patch.MERGE_PATCH, patch.STRATEGIC_MERGE_PATCH, patch.APPLY_PATCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One API request, parsed."""

    request: Request
    resource: Resource
    info: RequestInfo
    user: User
    query: Query
    asked: Asked

    @property
    def namespace(self) -> str:
        return self.info.namespace if self.resource.namespaced else ""


class Verbs:
    """The use cases over one store, shared by HTTP and by in-process clients."""

    def __init__(self, context: Context) -> None:
        self.reader = Reader(context)
        self.writer = Writer(context)
        self.scaler = Scaler(self.reader, self.writer)
        self.remover = Remover(context, self.reader)
        self.watcher = Watcher(context, self.reader)
        self.context = context


class Dispatcher:
    def __init__(self, registry: Registry, verbs: Verbs) -> None:
        self._registry = registry
        self._verbs = verbs
        self._responder = Responder(verbs.context.now)
        self._handlers: dict[str, Callable[[Call], Awaitable[Response]]] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    async def __call__(self, request: Request, info: RequestInfo, user: User, query: Query) -> Response:
        """Answer a resource request; a plain 404 when no resource is served at its path."""
        resource = self._find(info)
        if resource is None:
            return not_found_page()
        if info.name:
            check_path_name(info.name)
        call = Call(
            request=request, resource=resource, info=info, user=user, query=query, asked=asked_of(request, query)
        )
        if info.subresource and not (info.subresource == "status" and resource.strategy.has_status):
            return await self._subresource(call)
        verb = self._verb(call)
        if verb not in _READING_VERBS:
            # Found out now, not after the change was made.
            negotiation.choose(call.asked.accept, as_kinds=respond.ALL_KINDS)
        if resource.virtual_list is not None:
            return self._responder.virtual(call.asked, resource, await resource.virtual_list(user))
        return await self._handlers[verb](call)

    def _find(self, info: RequestInfo) -> Resource | None:
        """The resource at this path, as a whole or in a namespace as it is."""
        resource = self._registry.find(info.group, info.version, info.resource)
        return resource if resource is not None and _scope_fits(resource, info) else None

    def serves(self, info: RequestInfo) -> bool:
        """Whether there is such a resource, whatever its name, with such a subresource; True for other requests."""
        if not info.is_resource:
            return True
        resource = self._find(info)
        if resource is None:
            return False
        wanted = info.subresource
        return (
            not wanted
            or (wanted == "status" and resource.strategy.has_status)
            or (wanted == scales.SUBRESOURCE and resource.scale is not None)
            or any(item.name == wanted for item in resource.subresources)
        )

    @staticmethod
    def _verb(call: Call) -> str:
        info, resource = call.info, call.resource
        verb = info.verb
        if verb == "get" and call.query.get("watch") and parse_bool(call.query["watch"][0]) and not info.subresource:
            verb = "watch"
        served = ("get", "update", "patch") if info.subresource else resource.verbs
        if verb not in served or (verb == "create" and info.name) or (verb in _ITEM_VERBS and not info.name):
            raise status.method_not_allowed(resource.group_resource, verb or call.request.method.lower())
        if verb == "create" and resource.namespaced and not info.namespace:
            raise status.method_not_allowed(resource.group_resource, verb)
        return verb

    async def _subresource(self, call: Call) -> Response:
        wanted = call.info.subresource
        if wanted == scales.SUBRESOURCE and call.resource.scale is not None:
            return await self._scale(call, call.resource.scale)
        sub: Subresource | None = next((item for item in call.resource.subresources if item.name == wanted), None)
        if sub is None:
            return not_found_page()
        if call.info.verb != "get":
            raise status.method_not_allowed(call.resource.group_resource, call.info.verb)
        parent = await self._verbs.reader.get(call.resource, call.namespace, call.info.name)
        query = {name: values[0] for name, values in call.query.items() if values}
        answer = await sub.get(SubresourceRequest(user=call.user, parent=parent.object, query=query))
        content = {"kind": sub.kind, "apiVersion": call.resource.api_version, **answer}
        return respond.document(call.asked, content)

    async def _scale(self, call: Call, declared: ScalePaths) -> Response:
        resource, scaler = call.resource, self._verbs.scaler
        target = Target(resource, declared, call.namespace, call.info.name)
        verb = self._verb(call)
        if verb == "get":
            stored = await scaler.get(target, first(call.query, "resourceVersion"))
            return self._responder.item(call.asked, target.kind, stored)
        negotiation.choose(call.asked.accept, as_kinds=respond.ALL_KINDS)
        if verb == "update":
            options = parse_write_options(call.query, kind="UpdateOptions", user_agent=call.asked.user_agent)
            document = await read_object(call.request, target.kind, options.field_validation)
            result = await scaler.update(target, document.content, options, document.duplicates)
        else:
            media_type, options = self._patch_options(call)
            body = await read_body(call.request)
            if media_type == patch.APPLY_PATCH:
                result = await scaler.apply(target, decode_configuration(body), options)
            else:
                result = await scaler.patch(target, media_type, body, options)
        return self._responder.item(call.asked, target.kind, result.stored, warnings=result.warnings)

    async def _get(self, call: Call) -> Response:
        version = first(call.query, "resourceVersion")
        stored = await self._verbs.reader.get(call.resource, call.namespace, call.info.name, version)
        return self._responder.item(call.asked, call.resource, stored)

    async def _list(self, call: Call) -> Response:
        page = await self._verbs.reader.list(call.resource, call.namespace, parse_list_options(call.query))
        return await self._responder.page(call.asked, call.resource, page)

    async def _watch(self, call: Call) -> Response:
        events = await self._verbs.watcher.events(call.resource, call.namespace, self._watch_options(call))
        return self._responder.stream(call.asked, call.resource, events)

    @staticmethod
    def _watch_options(call: Call) -> ListOptions:
        """A watch of one item is a watch of the collection with a field selector."""
        options = parse_list_options({**call.query, "watch": ["true"]})
        name = next(iter(_after_resource(call.info)[0]), "")
        if not name:
            return options
        if options.field_selector.empty:
            return replace(options, field_selector=FieldSelector((("metadata.name", "=", name),)))
        if options.field_selector.exact("metadata.name") != name:
            raise status.bad_request("fieldSelector metadata.name doesn't match requested name")
        return options

    async def _create(self, call: Call) -> Response:
        options = parse_write_options(call.query, kind="CreateOptions", user_agent=call.asked.user_agent)
        body = await read_object(call.request, call.resource, options.field_validation)
        if call.resource.virtual_create is not None:
            checked = check_virtual(call.resource, call.namespace, body, options.field_validation)
            asked = CreateRequest(user=call.user, namespace=call.namespace, object=checked.object)
            answer = await call.resource.virtual_create(asked)
            return respond.document(call.asked, answer, code=201, warnings=checked.warnings)
        result = await self._verbs.writer.create(call.resource, call.namespace, body.content, options, body.duplicates)
        return self._responder.item(call.asked, call.resource, result.stored, code=201, warnings=result.warnings)

    async def _update(self, call: Call) -> Response:
        options = parse_write_options(call.query, kind="UpdateOptions", user_agent=call.asked.user_agent)
        body = await read_object(call.request, call.resource, options.field_validation)
        result = await self._verbs.writer.update(
            call.resource,
            call.namespace,
            call.info.name,
            body.content,
            options,
            body.duplicates,
            status_only=call.info.subresource == "status",
        )
        return self._responder.item(call.asked, call.resource, result.stored, warnings=result.warnings)

    async def _patch(self, call: Call) -> Response:
        media_type, options = self._patch_options(call)
        body = await read_body(call.request)
        status_only = call.info.subresource == "status"
        writer, resource, where = self._verbs.writer, call.resource, (call.namespace, call.info.name)
        if media_type == patch.APPLY_PATCH:
            config = decode_configuration(body)
            result = await writer.apply(resource, *where, config, options, status_only=status_only)
        else:
            result = await writer.patch(resource, *where, media_type, body, options, status_only=status_only)
        code = 201 if result.created else 200
        return self._responder.item(call.asked, resource, result.stored, code=code, warnings=result.warnings)

    @staticmethod
    def _patch_options(call: Call) -> tuple[str, WriteOptions]:
        media_type = media_type_of(call.request)
        if media_type not in _PATCH_TYPES:
            raise status.unsupported_media_type(_PATCH_TYPES)
        applies = media_type == patch.APPLY_PATCH
        options = parse_write_options(
            call.query, kind="PatchOptions", user_agent=call.asked.user_agent, apply_patch=applies
        )
        return media_type, options

    async def _delete(self, call: Call) -> Response:
        options = await self._delete_options(call)
        removal = await self._verbs.remover.delete(call.resource, call.namespace, call.info.name, options)
        if not removal.removed:
            code = 202 if options.orphan_dependents is False else 200
            return self._responder.item(call.asked, call.resource, removal.stored, code=code)
        uid = removal.stored.object["metadata"].get("uid", "")
        done = status.success(call.resource.group_resource, call.info.name, uid)
        return respond.untransformed(call.asked, done)

    async def _delete_collection(self, call: Call) -> Response:
        options = await self._delete_options(call)
        selection = parse_list_options(call.query)
        page = await self._verbs.remover.delete_collection(call.resource, call.namespace, selection, options)
        return await self._responder.page(call.asked, call.resource, page)

    @staticmethod
    async def _delete_options(call: Call) -> DeleteOptions:
        return parse_delete_options(call.query, await read_delete_options(call.request))


def _after_resource(info: RequestInfo) -> tuple[Sequence[str], bool]:
    """The segments of the path after the resource, and whether the resource is below a namespace.

    At most a name and a subresource mean something.
    """
    parts: Sequence[str] = info.path.strip("/").split("/")[2 if info.path.startswith("/api/") else 3 :]
    if info.verb == "watch" and parts[0] == "watch":
        parts = parts[1:]
    _, rest = split_namespace(parts)
    return rest[1:], len(rest) < len(parts)


def _scope_fits(resource: Resource, info: RequestInfo) -> bool:
    """Namespaced items live under a namespace, cluster-scoped ones do not."""
    named, below_namespace = _after_resource(info)
    if len(named) > (1 if info.verb == "watch" else 2):
        return False
    if not resource.namespaced:
        return not below_namespace
    return below_namespace or not named


def asked_of(request: Request, query: Query) -> Asked:
    headers = request.headers
    return Asked(
        accept=headers.get("accept", ""),
        accept_encoding=headers.get("accept-encoding", ""),
        user_agent=headers.get("user-agent", ""),
        query=query,
    )


def not_found_page() -> Response:
    return PlainTextResponse("404 page not found\n", 404, headers={"x-content-type-options": "nosniff"})
