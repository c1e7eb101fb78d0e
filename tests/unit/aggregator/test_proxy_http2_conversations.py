"""Against another implementation: whatever is asked in whatever order, the answers belong to the questions."""

import asyncio
import random
from typing import cast

import h2.settings
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.aggregator.h2_kit import stack
from tests.unit.aggregator.http2_kit import (
    PATH,
)
from tests.unit.aggregator.proxy_kit import (
    PKI,
    fields_of,
    read_head,
)

# Against another implementation: whatever is asked in whatever order, the answers belong to the questions

_REQUEST = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]),
        "upload": st.sampled_from([None, 0, 1, 9, 20_000, 70_000]),
        "declared": st.booleans(),
        "size": st.sampled_from([0, 1, 2048, 16384, 16385, 100_000]),
        "chunked": st.booleans(),
        "reset": st.sampled_from([False] * 7 + [True]),
        "extra": st.sampled_from([(), (("x-a", "1"),), (("x-a", "2"), ("cookie", "a=1"))]),
    }
)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with as many bytes as the path says, told apart by a token, and says how long the body was."""
    while True:
        found = await read_head(reader)
        method, target = found.split(b" ", 2)[:2]
        token, size, chunked = target.rpartition(b"/")[2].split(b"-")
        got = 0
        if fields_of(found, "transfer-encoding"):
            while length := int(await reader.readline(), 16):
                got += len(await reader.readexactly(length + 2)) - 2
            await reader.readline()
        elif lengths := fields_of(found, "content-length"):
            got = len(await reader.readexactly(int(lengths[0])))
        body = (token * (int(size) // len(token) + 1))[: int(size)]
        writer.write(b"HTTP/1.1 200 OK\r\nX-Got: %d\r\nX-Token: %b\r\n" % (got, token))
        if chunked == b"1":
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
            if method != b"HEAD":
                for start in range(0, len(body), 7000):
                    piece = body[start : start + 7000]
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                writer.write(b"0\r\n\r\n")
        else:
            writer.write(b"Content-Length: %d\r\n\r\n" % len(body))
            if method != b"HEAD":
                writer.write(body)
        await writer.drain()


async def _converse(pki: PKI, requests: list[dict[str, object]], seed: int, window_size: int) -> None:
    chance = random.Random(seed)
    async with stack(pki, _echo) as (_, front, caller):
        caller.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window_size})
        caller.flush()
        asked: dict[int, dict[str, object]] = {}
        uploads: dict[int, int] = {}
        for number, wanted in enumerate(requests):
            path = f"{PATH}/t{number}-{wanted['size']}-{int(cast(bool, wanted['chunked']))}"
            upload = cast(int | None, wanted["upload"])
            extra = list(cast(tuple[tuple[str, str], ...], wanted["extra"]))
            if upload is not None and wanted["declared"]:
                extra.append(("content-length", str(upload)))
            stream = caller.start(str(wanted["method"]), path, *extra, end=upload is None)
            asked[stream] = {**wanted, "token": f"t{number}"}
            if upload is not None:
                uploads[stream] = upload
        while uploads:
            stream = chance.choice(list(uploads))
            left = uploads[stream]
            if asked[stream]["reset"]:
                caller.connection.reset_stream(stream)
                del uploads[stream], asked[stream]
                continue
            allowed = caller.connection.local_flow_control_window(stream)
            if left and not allowed:
                await caller.receive()
                continue
            room = min(left, allowed, chance.choice([500, 5000, 16384]))
            caller.connection.send_data(stream, b"u" * room, end_stream=room == left)
            caller.flush()
            uploads[stream] = left - room
            if room == left:
                del uploads[stream]
        caller.flush()
        for stream, wanted in asked.items():
            body = await caller.body(stream)
            fields = await caller.head(stream)
            size, token = cast(int, wanted["size"]), str(wanted["token"])
            assert (fields[":status"], fields["x-token"]) == ("200", token)
            assert fields["x-got"] == str(wanted["upload"] or 0)
            expected = b"" if wanted["method"] == "HEAD" else (token.encode() * (size // len(token) + 1))[:size]
            assert body == expected
        assert front.metrics.in_flight == 0


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    requests=st.lists(_REQUEST, min_size=1, max_size=12),
    seed=st.integers(0, 1000),
    window_size=st.sampled_from([1000, 65535, 1 << 20]),
)
def test_conversations_with_the_h2_library(
    pki: PKI, requests: list[dict[str, object]], seed: int, window_size: int
) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            await _converse(pki, requests, seed, window_size)

    uvloop.run(run())
