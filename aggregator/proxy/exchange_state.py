"""What is known of the exchange in progress on a client's connection or stream."""

import asyncio
import math
from typing import cast

from aggregator.proxy.admission import Flow
from aggregator.proxy.carrier import Carrier
from aggregator.proxy.endpoint import Dial
from aggregator.proxy.metrics import RouteCounters
from aggregator.proxy.observer import Record
from aggregator.proxy.plane import Plane
from aggregator.proxy.states import IDLE
from aggregator.proxy.target import Target


class ExchangeState:
    """Nothing but the attributes; `client_side` and those who build on it say what becomes of them."""

    __slots__ = (
        "_at_line_end",
        "_began",
        "_chunk_out",
        "_counters",
        "_out",
        "_replay",
        "_to_upstream",
        "_write_blocked",
        "audit_id",
        "code",
        "deadline",
        "dial",
        "flow",
        "head_request",
        "head_sent",
        "http10",
        "keep_alive",
        "long_running",
        "method",
        "plane",
        "record",
        "remote",
        "request_complete",
        "retried",
        "route_name",
        "state",
        "target",
        "transport",
        "upgrade",
        "upstream",
    )

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.state: int = IDLE
        self.deadline = math.inf
        self.upstream: Carrier | None = None
        self.dial: Dial | None = None
        self.method = b""
        self.target: Target | None = None
        self.route_name = ""
        self.audit_id = b""
        self.head_request = False
        self.request_complete = False
        self.upgrade = False
        self.long_running = False
        self.keep_alive = True
        self.http10 = False
        self.head_sent = False
        self.retried = False
        self.remote = False
        self.code = 0
        self.flow: Flow | None = None
        """Where the exchange has its seat, if it needs one."""
        self.record: Record | None = None
        """What an observer knows of the exchange; None without one."""
        self._replay: bytes | None = None
        """What to send again should the connection turn out to be dead; None if that would not be safe."""
        self._to_upstream: list[bytes] = []
        """What of the request waits for a connection."""
        self._counters: RouteCounters | None = None
        self._began = 0.0
        self._chunk_out = False
        self._at_line_end = False
        self._write_blocked = False
        self._out: list[bytes] = []
