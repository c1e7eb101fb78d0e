"""The aggregated servers of the moment, and the events that make it worth asking one of them again."""

from collections.abc import Callable

from aggregator.api import conditions, discovery_sources, externalname, references
from aggregator.api.discovery_sources import Source
from aggregator.api.ports import Cache
from aggregator.upstream.backend import Backend, ResolveError, backend_for
from apimachinery.types import Object


class SourceIndex:
    """`changed` is called with the key of a source whenever its APIServices, its address or its availability change;
    `reshaped` whenever the set of APIServices or one of their specs does.
    """

    def __init__(
        self,
        *,
        apiservices: Cache,
        externalnames: Cache,
        changed: Callable[[str], None],
        reshaped: Callable[[], None],
    ) -> None:
        self._apiservices = apiservices
        self._externalnames = externalnames
        self._changed = changed
        self._reshaped = reshaped
        self._sources: dict[str, Source] | None = None
        apiservices.add_handler(self._apiservice_changed)
        externalnames.add_handler(self._externalname_changed)

    @property
    def current(self) -> dict[str, Source]:
        """All sources by key; not to be changed."""
        if self._sources is None:
            self._sources = discovery_sources.sources(self._apiservices.list())
        return self._sources

    async def complete(self) -> None:
        """Wait until both caches have been filled."""
        await self._apiservices.synced.wait()
        await self._externalnames.synced.wait()

    def resolve(self, source: Source) -> Backend | ResolveError:
        return backend_for(source.apiservices[0], self._externalnames.get)

    def available(self, source: Source) -> bool:
        """Whether any of the APIServices is marked as available now."""
        found = (self._apiservices.get("", obj["metadata"]["name"]) for obj in source.apiservices)
        return any(obj is not None and conditions.is_true(obj) for obj in found)

    def _apiservice_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and references.spec(old) == references.spec(new):
            if conditions.is_true(old) == conditions.is_true(new):
                return
        else:
            self._sources = None
            self._reshaped()
        for key in dict.fromkeys(discovery_sources.key_of(obj) for obj in (old, new) if obj is not None):
            if key:
                self._changed(key)

    def _externalname_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and externalname.host(old) == externalname.host(new):
            return
        obj = new if new is not None else old
        if obj is None:
            return
        where = (obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
        for source in self.current.values():
            if (source.reference.namespace, source.reference.name) == where:
                self._changed(source.key)
