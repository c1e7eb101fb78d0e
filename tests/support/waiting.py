"""What tests of whole programs share: waiting for something to become true, and ports that are free."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(ask: Callable[[], T], *, seconds: float, interval: float = 0.05) -> T:
    """The first true answer; AssertionError with the last answer when none came in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing true within {seconds:g} s; the last answer was {answer!r}")
        time.sleep(interval)


def free_ports(count: int) -> list[int]:
    """Distinct free ports: all are held until all are known."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [server.getsockname()[1] for server in servers]
    finally:
        for server in servers:
            server.close()


def free_port() -> int:
    return free_ports(1)[0]
