"""The ConfigMap `extension-apiserver-authentication`: whom servers beneath this one may believe (aggregator.md 9.1).

It is an ordinary stored object, so that lists and watches are those of every resource; only clients cannot write it.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from cryptography import x509
from cryptography.x509.oid import NameOID

from apimachinery.gvk import GroupVersion
from apimachinery.status import APIError
from apimachinery.types import Object
from apiserver import logs
from apiserver.client import Client, ResourceRef
from apiserver.resource import Resource

NAMESPACE: Final = "kube-system"
NAME: Final = "extension-apiserver-authentication"
GROUP_VERSION: Final = GroupVersion("", "v1")
CONFIGMAPS: Final = ResourceRef("", "v1", "configmaps")
_REFRESH_SECONDS = 10.0

_TEXTS: Final[Object] = {"type": "object", "additionalProperties": {"type": "string"}}
RESOURCE: Final = Resource(
    group="",
    version="v1",
    kind="ConfigMap",
    plural="configmaps",
    singular="configmap",
    short_names=("cm",),
    namespaced=True,
    schema={
        "type": "object",
        "description": "ConfigMap holds configuration for others to read.",
        "properties": {"data": {**_TEXTS, "description": "Texts by key."}},
    },
    verbs=("get", "list", "watch"),
    description="ConfigMap holds configuration for others to read.",
)

log = logs.get("authentication-config")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustFiles:
    """PEM files; those that are not there leave out their part."""

    client_ca: Path | None
    """Who issues the certificates of users."""
    proxy_ca: Path | None
    """Who has issued the certificate that this server shows to the servers beneath it."""
    proxy_certificate: Path | None
    """That certificate: its name is the only one to be believed."""


class ConfigPublisher:
    """Writes the ConfigMap, and again when the files change. `synced` is set once it is there."""

    def __init__(self, client: Client, files: TrustFiles, read: Callable[[TrustFiles], Mapping[str, str]]) -> None:
        self.synced = asyncio.Event()
        self._client = client
        self._files = files
        self._read = read

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            try:
                await self.publish()
                self.synced.set()
            except (OSError, ValueError, APIError) as error:
                log.warning("not published", error=str(error))
            await asyncio.sleep(_REFRESH_SECONDS)

    async def publish(self) -> None:
        """Bring the object in line with the files. OSError, ValueError, APIError."""
        data = dict(self._read(self._files))
        try:
            current = await self._client.get(CONFIGMAPS, NAMESPACE, NAME)
        except APIError as error:
            if error.code != 404:
                raise
            metadata = {"name": NAME, "namespace": NAMESPACE}
            await self._client.create(CONFIGMAPS, NAMESPACE, {"metadata": metadata, "data": data})
            return
        if current.get("data") != data:
            await self._client.update(CONFIGMAPS, NAMESPACE, {**current, "data": data})
            log.info("published anew")


def read_trust(files: TrustFiles) -> dict[str, str]:
    """The data of the ConfigMap. OSError, ValueError."""
    data: dict[str, str] = {}
    if files.client_ca is not None:
        data["client-ca-file"] = files.client_ca.read_text(encoding="ascii")
    if files.proxy_ca is not None and files.proxy_certificate is not None:
        data["requestheader-client-ca-file"] = files.proxy_ca.read_text(encoding="ascii")
        data["requestheader-allowed-names"] = _array(_common_names(files.proxy_certificate))
        data["requestheader-username-headers"] = _array(["X-Remote-User"])
        data["requestheader-uid-headers"] = _array(["X-Remote-Uid"])
        data["requestheader-group-headers"] = _array(["X-Remote-Group"])
        data["requestheader-extra-headers-prefix"] = _array(["X-Remote-Extra-"])
    return data


def _common_names(file: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    return [str(item.value) for item in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _array(texts: list[str]) -> str:
    return orjson.dumps(texts).decode()
