"""Two TLS connections joined and nothing else: what a proxied watch takes of memory before a proxy adds anything.

With `--shared 100` only each hundredth client has a connection towards the backend, as if it carried all of their
watches; the others get their event from here.
"""

import argparse
import asyncio
import itertools
import ssl
from pathlib import Path
from typing import cast

import uvloop

from apiserver.tls import server_context
from bench.measure import raise_file_limit
from bench.peers.streams import WATCHING
from bench.pki import SERVER_NAME
from bench.ports import BARE, STREAMS


class _Half(asyncio.Protocol):
    __slots__ = ("other", "transport")

    def __init__(self, other: "_Half | None" = None) -> None:
        self.other = other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.abort()


class _Front(_Half):
    __slots__ = ("_dialling", "_dials")

    def __init__(self, context: ssl.SSLContext, tasks: set[asyncio.Task[None]], *, dials: bool) -> None:
        super().__init__()
        self._dialling = (context, tasks)
        self._dials = dials

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        if not self._dials:
            self.transport.write(WATCHING)
            return
        context, tasks = self._dialling
        task = asyncio.get_running_loop().create_task(self._dial(context, data))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _dial(self, context: ssl.SSLContext, first: bytes) -> None:
        _, self.other = await asyncio.get_running_loop().create_connection(
            lambda: _Half(self), "127.0.0.1", STREAMS, ssl=context, server_hostname=SERVER_NAME
        )
        self.other.transport.write(first)


async def _run(directory: Path, share: int) -> None:
    raise_file_limit()
    towards = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    towards.verify_flags &= ~ssl.VERIFY_X509_STRICT
    towards.load_cert_chain(directory / "client.crt", directory / "client.key")
    front = server_context(directory / "proxy.crt", directory / "proxy.key", [directory / "ca.crt"])
    tasks: set[asyncio.Task[None]] = set()
    numbers = itertools.count()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Front(towards, tasks, dials=next(numbers) % share == 0), "127.0.0.1", BARE, ssl=front, backlog=4096
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--shared", type=int, default=1, metavar="N", help="clients for each connection to the backend")
    arguments = parser.parse_args()
    uvloop.run(_run(arguments.directory, arguments.shared))


if __name__ == "__main__":
    main()
