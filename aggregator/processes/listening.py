"""The listening sockets of the workers. The supervisor holds them, so no connection is lost when a worker goes."""

import itertools
import socket

from apiserver import bindable
from apiserver.serving import ListenError, why


def open_sockets(host: str, port: int, slots: int) -> list[list[socket.socket]]:
    """For each slot a bound socket on every address of `host`; all have the same port. ListenError.

    Each slot has sockets of its own (SO_REUSEPORT): the kernel spreads connections over them evenly, which it does not
    over processes that accept from one (ADR 0016).
    """
    opened: list[list[socket.socket]] = [[] for _ in range(slots)]
    try:
        for family, address in bindable.addresses(host):
            if port:
                # Sockets that share a port do not notice another program of the same user that shares it, too.
                _bound(family, address, port, shared=False).close()
            for slot in opened:
                bound = _bound(family, address, port, shared=True)
                port = bound.getsockname()[1]
                slot.append(bound)
    except OSError as error:
        for bound in itertools.chain.from_iterable(opened):
            bound.close()
        raise ListenError(f"cannot listen on {host}:{port}: {why(error)}") from error
    return opened


def _bound(family: int, address: str, port: int, *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made
