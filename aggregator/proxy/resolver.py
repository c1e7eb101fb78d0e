"""From host names to the addresses of endpoints."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

Address = tuple[str, int]
"""(IP address, port)."""

LOOKUP_SECONDS = 10.0


def is_literal(host: str) -> bool:
    """Whether a host is an IP address, which needs no lookup."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def resolve(hosts: Sequence[tuple[str, int]]) -> list[Address]:
    """Every address of every host, each once, in the order of preference that the system gives them.

    A host that cannot be looked up is left out as long as another one can; OSError (mostly socket.gaierror) or
    TimeoutError of the first one otherwise.
    """
    async with asyncio.timeout(LOOKUP_SECONDS):
        answers = await asyncio.gather(*(_lookup(host, port) for host, port in hosts), return_exceptions=True)
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


async def _lookup(host: str, port: int) -> list[Address]:
    if is_literal(host):
        return [(host, port)]
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        # A label that is too long or empty: the codec's own words mean nothing to a client.
        raise socket.gaierror(socket.EAI_NONAME, "no such host") from None
    return [(str(info[4][0]), port) for info in infos if info[0] in (socket.AF_INET, socket.AF_INET6)]
