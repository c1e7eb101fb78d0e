"""Registering the remote services that the configuration lists (aggregator.md 6.4)."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from aggregator.api import apiservice, ca_bundle, externalname, references
from aggregator.api.apiservice_strategy import MAX_VERSION_PRIORITY
from aggregator.api.autoregister import AutoRegister
from aggregator.api.desired import Mode, managed_mode
from aggregator.api.ports import Cache
from aggregator.api.refs import APISERVICES, EXTERNALNAMES
from apimachinery import status
from apimachinery.gvk import GroupVersion
from apimachinery.types import Object
from apiserver import logs
from apiserver.client import Client

FIELD_MANAGER = "grafana-aggregator"
GROUP_PRIORITY = 16000
FIRST_VERSION_PRIORITY = 1
_RETRY_BASE_SECONDS = 0.1
_RETRY_CAP_SECONDS = 10.0

log = logs.get("remote-registration")


class RemoteService(Protocol):
    """One entry of the list: who serves a group version."""

    @property
    def group(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationSettings:
    """`namespace` holds the ExternalNames. `bundle` is PEM, None when none is configured.

    A configured bundle is always used to verify the servers, in dev mode too. Without one the system's certificate
    authorities are trusted; only dev mode turns verification off then.
    """

    namespace: str = "default"
    bundle: bytes | None = None
    dev_mode: bool = False


def name_of(service: RemoteService) -> str:
    """The name of both the APIService and the ExternalName of an entry."""
    return references.object_name(GroupVersion(service.group, service.version))


def remote_apiservice(service: RemoteService, position: int, settings: RegistrationSettings) -> Object:
    """The APIService of the entry at `position` (from 0); later entries are preferred among versions of a group."""
    spec: Object = {
        "group": service.group,
        "version": service.version,
        "groupPriorityMinimum": GROUP_PRIORITY,
        "versionPriority": min(FIRST_VERSION_PRIORITY + position, MAX_VERSION_PRIORITY),
        "service": {"name": name_of(service), "namespace": settings.namespace, "port": service.port},
    }
    if settings.bundle:
        spec["caBundle"] = ca_bundle.encode(settings.bundle)
    elif settings.dev_mode:
        spec["insecureSkipTLSVerify"] = True
    return {
        "apiVersion": f"{apiservice.GROUP}/{apiservice.VERSION}",
        "kind": "APIService",
        "metadata": {"name": name_of(service)},
        "spec": spec,
    }


def remote_external_name(service: RemoteService, settings: RegistrationSettings) -> Object:
    obj = externalname.external_name(settings.namespace, name_of(service), service.host)
    obj["metadata"]["labels"] = {apiservice.AUTOMANAGED_LABEL: Mode.ON_START.value}
    return obj


class RemoteRegistration:
    """Registers every listed service once per start; what was registered earlier and is listed no more is removed.

    A group version that this server serves itself (`local`) wins over a listed one. `synced` is set when all
    ExternalNames are in place. Call `prepare` before the AutoRegister runs.
    """

    def __init__(
        self,
        *,
        services: Sequence[RemoteService],
        settings: RegistrationSettings,
        local: Collection[GroupVersion],
        client: Client,
        externalnames: Cache,
        apiservices: Cache,
        autoregister: AutoRegister,
    ) -> None:
        self.synced = asyncio.Event()
        self._settings = settings
        self._bundles = {settings.bundle} if settings.bundle else set()
        self._bundle_changed = asyncio.Event()
        self._client = client
        self._externalnames = externalnames
        self._apiservices = apiservices
        self._autoregister = autoregister
        self._listed = list(enumerate(services))
        self._wanted = [item for item in self._listed if GroupVersion(item[1].group, item[1].version) not in local]

    @property
    def names(self) -> list[str]:
        """The APIServices that are registered from the list."""
        return [name_of(service) for _, service in self._wanted]

    def prepare(self) -> None:
        """Tell the AutoRegister what is wanted."""
        for position, service in self._wanted:
            self._autoregister.want(remote_apiservice(service, position, self._settings), Mode.ON_START)
        registered = set(self.names)
        for _, service in self._listed:
            if name_of(service) not in registered:
                log.warning(
                    "remote service ignored: this server serves its group version itself",
                    name=name_of(service),
                    host=service.host,
                    port=service.port,
                )

    async def run(self) -> None:
        """Put the ExternalNames in place and remove leftovers; failures are tried again until it is done."""
        await self._externalnames.synced.wait()
        await self._apiservices.synced.wait()
        for _, service in self._wanted:
            await self._persist(remote_external_name(service, self._settings))
        await self._autoregister.synced.wait()
        for leftover in self._leftovers():
            await self._remove(leftover)
        self.synced.set()

    def use_bundle(self, bundle: bytes) -> bool:
        """Verify the listed servers with another bundle (PEM) from now on; False when it is the present one."""
        if bundle == self._settings.bundle:
            return False
        self._settings = replace(self._settings, bundle=bundle)
        self._bundles.add(bundle)
        for position, service in self._wanted:
            self._autoregister.want(remote_apiservice(service, position, self._settings), Mode.ON_START)
        self._bundle_changed.set()
        return True

    async def follow_bundle(self) -> None:
        """Put each new bundle into the registered APIServices, until cancelled."""
        await self.synced.wait()
        while True:
            await self._bundle_changed.wait()
            self._bundle_changed.clear()
            for name in self.names:
                await retried("bundle not put into apiservice", name, partial(self._put_bundle, name))

    async def _put_bundle(self, name: str) -> None:
        """Replace a bundle of ours; an object that somebody else has taken over or changed is left alone."""
        try:
            current = await self._client.get(APISERVICES, "", name)
        except status.APIError as error:
            if error.reason != "NotFound":
                raise
            return
        bundle, spec = self._settings.bundle, references.spec(current)
        encoded = {ca_bundle.encode(one) for one in self._bundles}
        if not bundle or managed_mode(current) is None or spec.get("caBundle") not in encoded:
            return
        if spec["caBundle"] != ca_bundle.encode(bundle):
            changed = {**current, "spec": {**current["spec"], "caBundle": ca_bundle.encode(bundle)}}
            await self._client.update(APISERVICES, "", changed)
            log.info("apiservice verified with another bundle", name=name)

    async def _persist(self, obj: Object) -> None:
        metadata = obj["metadata"]

        async def apply() -> None:
            await self._client.apply(EXTERNALNAMES, metadata["namespace"], obj, field_manager=FIELD_MANAGER)

        await retried("externalname not applied", metadata["name"], apply)

    def _leftovers(self) -> list[Object]:
        """ExternalNames of earlier lists that no APIService refers to any more."""
        kept = filter(self._is_kept, self._apiservices.list())
        used = {(ref.namespace, ref.name) for ref in map(references.service, kept) if ref}
        wanted = {(self._settings.namespace, name) for name in self.names}
        found = []
        for obj in self._externalnames.list():
            metadata = obj["metadata"]
            where = (metadata.get("namespace") or "", metadata["name"])
            managed = (metadata.get("labels") or {}).get(apiservice.AUTOMANAGED_LABEL) == Mode.ON_START.value
            if managed and where not in used | wanted:
                found.append(obj)
        return found

    def _is_kept(self, obj: Object) -> bool:
        """Whether an APIService stays; the others are removed already, though the cache may not know it yet."""
        return managed_mode(obj) is None or obj["metadata"]["name"] in self._autoregister.desired_names

    async def _remove(self, obj: Object) -> None:
        metadata = obj["metadata"]
        try:
            await self._client.delete(EXTERNALNAMES, metadata["namespace"], metadata["name"], uid=metadata.get("uid"))
            log.info("externalname removed", name=metadata["name"], namespace=metadata["namespace"])
        except status.APIError as error:
            # It is looked for again at the next start; nothing refers to it.
            log.warning("externalname not removed", name=metadata["name"], error=error.message)


async def retried(event: str, name: str, action: Callable[[], Awaitable[None]]) -> None:
    """Do it until it succeeds; each failure is logged as `event`."""
    delay = _RETRY_BASE_SECONDS
    while True:
        try:
            await action()
            return
        except status.APIError as error:
            log.warning(event, name=name, error=error.message)
        await asyncio.sleep(delay)
        delay = min(delay * 2, _RETRY_CAP_SECONDS)
