"""A backend that writes down what reaches it and finds fault with it: nothing malformed, nothing spoofed may arrive."""

import asyncio
import re
from collections.abc import Callable

import h11

from tests.soak.faulty import Requests

USER = b"admin"
_IDENTITY = re.compile(rb"x[-_]remote[-_]|impersonate-")
_GROUPS = {b"system:masters", b"system:authenticated"}


class Recording:
    """Serves the groups of `owns`; `faults` says what should never have come, `seen` what came."""

    def __init__(self, group: str) -> None:
        self._prefix = f"/apis/{group}/".encode()
        self.seen: list[tuple[bytes, bytes]] = []
        self.faults: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = Requests(reader, writer)
        try:
            while True:
                request = await requests.head()
                self._check(request)
                await requests.body()
                self.seen.append((request.method, request.target))
                await requests.answer(request, b"ok")
        except h11.RemoteProtocolError as error:
            self.faults.append(f"not HTTP: {error}")

    def _check(self, request: h11.Request) -> None:
        fields = [(name.lower(), value) for name, value in request.headers]
        path = request.target.partition(b"?")[0]
        if not path.startswith(self._prefix) or b".." in path:
            self.faults.append(f"target {request.target!r}")
        identity = [(name, value) for name, value in fields if _IDENTITY.match(name)]
        users = [value for name, value in identity if name == b"x-remote-user"]
        groups = {value for name, value in identity if name == b"x-remote-group"}
        others = [name for name, _ in identity if name not in (b"x-remote-user", b"x-remote-group")]
        if users != [USER] or groups != _GROUPS or others:
            self.faults.append(f"identity {identity!r}")
        framing = [name for name, _ in fields if name in (b"content-length", b"transfer-encoding")]
        if len(framing) > 1:
            self.faults.append(f"framing {fields!r}")

    def taken(self) -> list[tuple[bytes, bytes]]:
        """What came since it was last asked."""
        seen, self.seen = self.seen, []
        return seen

    def expect_nothing_wrong(self, told: Callable[[], str]) -> None:
        """AssertionError, with the words of `told`, if anything came that should not have."""
        assert not self.faults, f"{self.faults}\n{told()}"
