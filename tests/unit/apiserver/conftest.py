import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apiserver import serving, tls
from tests.unit.apiserver import certificates
from tests.unit.apiserver.certificates import Issued

Serve = Callable[..., Awaitable[serving.Server]]


@dataclass(frozen=True, kw_only=True)
class PKI:
    """One CA, a server and a client certificate under it, and a client under another CA; with their files."""

    directory: Path
    ca: Issued
    ca_file: Path
    server: Issued
    server_files: tuple[Path, Path]
    client: Issued
    stranger: Issued


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    directory = tmp_path_factory.mktemp("pki")
    ca = certificates.authority("test-ca")
    server = certificates.server_for(ca)
    subject = certificates.name("alice", ["developers", "system:masters"])
    return PKI(
        directory=directory,
        ca=ca,
        ca_file=ca.write(directory, "ca")[0],
        server=server,
        server_files=server.write(directory, "server"),
        client=certificates.issue(subject, ca, usages=[certificates.CLIENT]),
        stranger=certificates.issue(subject, certificates.authority("other-ca"), usages=[certificates.CLIENT]),
    )


@pytest.fixture
async def serve(pki: PKI) -> AsyncIterator[Serve]:
    """Starts servers that end with the test; `tls=True` serves the certificate of `pki` and asks for client ones."""
    servers: list[serving.Server] = []

    async def start(
        app: serving.ASGIApp, *, tls_on: bool = False, alpn: tuple[str, ...] = ("http/1.1", "h2"), **options: Any
    ) -> serving.Server:
        context = tls.server_context(*pki.server_files, [pki.ca_file], alpn) if tls_on else None
        servers.append(await serving.serve(app, ssl_context=context, **options))
        return servers[-1]

    before = asyncio.all_tasks()
    yield start
    for server in servers:
        await server.stop()
    left = {task for task in asyncio.all_tasks() - before if not task.done() and task is not asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"
