"""A process that the supervisor has started, as it sees itself: orders in, news out, the end with the supervisor."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from aggregator.processes import sums
from aggregator.processes.channel import Channel, Message
from apiserver import logs

log = logs.get("aggregator.process")

Handler = Callable[[Message], None]


def ignore_signals() -> None:
    """The supervisor ends its processes in order; service managers and terminals would end all of them at once."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _end_at_once() -> None:
    # Nobody is left to be served in order for, and another supervisor may be waiting for port and data.
    log.error("the supervisor is gone, ending at once")
    os._exit(1)


class Part:
    """This end of the channel. `on` says what is done about a message; others are ignored."""

    def __init__(self, collectors: CollectorRegistry, orphaned: Callable[[], None] = _end_at_once) -> None:
        """`orphaned` is called when the supervisor is gone."""
        self._collectors = collectors
        self._handlers: dict[str, Handler] = {"metrics": self._metrics, "ping": self._ping, "stop": self._stop}
        self._channel = Channel(self._on_message, orphaned)
        self._stop_asked = asyncio.Event()
        self._hurry = asyncio.Event()
        self.linger = 0.0
        """Seconds for clients to leave by themselves, once a stop was asked for."""

    async def open(self, descriptor: int) -> None:
        await self._channel.open(socket.socket(fileno=descriptor))

    def on(self, kind: str, handler: Handler) -> None:
        self._handlers[kind] = handler

    def send(self, kind: str, **members: Any) -> None:
        self._channel.send(kind, **members)

    async def stop_asked(self) -> None:
        await self._stop_asked.wait()

    async def hurry(self) -> None:
        """Wait until an end without lingering is asked for."""
        await self._hurry.wait()

    def request_stop(self) -> None:
        """End without having been asked."""
        self._stop_asked.set()
        self._hurry.set()

    def say_goodbye(self) -> None:
        """Tell what was counted to the end, as the last message."""
        self._metrics({})

    def _on_message(self, message: Message) -> None:
        handler = self._handlers.get(message["type"])
        if handler is not None:
            handler(message)

    def _metrics(self, _message: Message) -> None:
        self.send("metrics", families=sums.snapshot(self._collectors))

    def _ping(self, _message: Message) -> None:
        self.send("pong")

    def _stop(self, message: Message) -> None:
        linger: float = message.get("linger", 0.0)
        if not linger:
            self._hurry.set()
        self.linger = linger
        self._stop_asked.set()
