"""Which addresses a server listens on when it is told a host name."""

import errno
import ipaddress
import socket
from collections.abc import Sequence

from apiserver import logs

_log = logs.get("apiserver.serving")
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

Address = tuple[int, str]
"""Family, and the address as text."""


def addresses(host: str) -> list[Address]:
    """What the name or address `host` stands for; OSError when it stands for nothing.

    The hosts file of most containers says that `localhost` is `::1`, too, and IPv6 is off there: an address that this
    machine does not have is left out and logged, unless there is no other.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return of_this_machine(host, list(dict.fromkeys((int(family), str(name[0])) for family, *_, name in found)))


def names(host: str) -> list[str]:
    """As `addresses`, for an event loop's `create_server`; what is an address already stays as it is."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return [address for _, address in addresses(host)]
    return [host]


def of_this_machine(host: str, found: Sequence[Address]) -> list[Address]:
    """Those of `found` that can be bound; all when none can: binding one says why then."""
    kept = [address for address in found if _can_be_bound(*address)]
    if not kept:
        return list(found)
    for _, address in set(found).difference(kept):
        _log.warning("not listening on an address that this machine does not have", host=host, address=address)
    return kept


def _can_be_bound(family: int, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno not in _NOT_HERE
    return True
