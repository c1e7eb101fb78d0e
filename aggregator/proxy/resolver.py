"""From host names to the addresses of endpoints."""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Sequence

from aggregator.upstream.egress import UNRESTRICTED, Egress

Address = tuple[str, int]
"""(IP address, port)."""

LOOKUP_SECONDS = 10.0
_NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)


def is_literal(host: str) -> bool:
    """Whether a host is an IP address, which needs no lookup."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def resolve(hosts: Sequence[tuple[str, int]], egress: Egress = UNRESTRICTED) -> list[Address]:
    """Every permitted address of every host, each once, in the order of preference that the system gives them.

    A host that cannot be looked up is left out as long as another one can; OSError (mostly socket.gaierror, or
    EgressRefused) or TimeoutError of the first one otherwise.
    """
    async with asyncio.timeout(LOOKUP_SECONDS):
        answers = await asyncio.gather(
            *(_permitted(host, port, egress) for host, port in hosts), return_exceptions=True
        )
    found: dict[Address, None] = {}
    failure: BaseException | None = None
    for answer in answers:
        if isinstance(answer, BaseException):
            failure = failure or answer
        else:
            found.update(dict.fromkeys(answer))
    if not found:
        raise failure or socket.gaierror(socket.EAI_NONAME, "no such host")
    return list(found)


async def _permitted(host: str, port: int, egress: Egress) -> list[Address]:
    found = await _lookup(host, port)
    permitted = egress.permitted(host, [address for address, _ in found])
    return [one for one in found if one[0] in permitted]


async def _lookup(host: str, port: int) -> list[Address]:
    if is_literal(host):
        return [(host, port)]
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        # A label that is too long or empty: the codec's own words mean nothing to a client.
        raise socket.gaierror(socket.EAI_NONAME, "no such host") from None
    return [(str(info[4][0]), port) for info in infos if info[0] in (socket.AF_INET, socket.AF_INET6)]


class Lookup:
    """The lookups of one set of names: one at a time, none too soon after another.

    `found` is told the addresses, `vanished` that the names do not exist; nobody anything when a lookup fails for a
    moment. `tasks` holds what is under way.
    """

    def __init__(
        self,
        hosts: Sequence[tuple[str, int]],
        name: str,
        tasks: set[asyncio.Task[None]],
        *,
        found: Callable[[Sequence[Address]], None],
        vanished: Callable[[], None],
        egress: Egress = UNRESTRICTED,
    ) -> None:
        self.failure: OSError | None = None
        """Why the names are known not to exist."""
        self._hosts = tuple(hosts)
        self._name = name
        self._tasks = tasks
        self._found = found
        self._vanished = vanished
        self._egress = egress
        self._running: asyncio.Task[None] | None = None
        self._ended_at = 0.0
        self._error: BaseException | None = None

    def older_than(self, seconds: float) -> bool:
        """Whether the last lookup ended longer ago."""
        return time.monotonic() - self._ended_at >= seconds

    def look_again(self, seconds: float) -> None:
        """Look up in the background, unless one is under way or was less than `seconds` ago."""
        if self._running is None and self.older_than(seconds):
            self._start()

    async def refresh(self) -> BaseException | None:
        """Look up, together with whoever is doing so already; what went wrong."""
        await asyncio.shield(self._running or self._start())
        return self._error

    def _start(self) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._run(), name=f"lookup {self._name}")
        self._running = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self) -> None:
        self._error = self.failure = None
        try:
            addresses = await resolve(self._hosts, self._egress)
        except socket.gaierror as error:
            self._error = error
            if error.errno in _NO_SUCH_NAME:
                self.failure = error
                self._vanished()
        except OSError as error:
            self._error = error
        else:
            self._found(addresses)
        finally:
            self._ended_at = time.monotonic()
            self._running = None
