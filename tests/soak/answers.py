"""What a backend says over HTTP/2 that is almost right, as bytes. Pure.

One answer of a batch is left as it is. Nothing that is done to the others touches its frames, so whoever asked for it
gets it, or is told that it is lost; what the others get is anybody's guess.
"""

import hashlib
import random
import struct
from dataclasses import dataclass

import hpack

from tests.soak.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)

_NAMES = ("x-a", "X-A", "", "x a", "x\r\ny", "connection", "transfer-encoding", "content-length", ":status", ":path")
_VALUES = ("1", "", " 1", "1\r\nSet-Cookie: a=b", "1\0", "chunked", "5", "-1", "200", "101", "x" * 3000)
_NUMBERS = (0, 1, 5, 100, 16383, 16384, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


def content(path: str) -> bytes:
    """The body that belongs to a path: some length, and no byte of it by chance."""
    seed = hashlib.sha256(path.encode()).digest()
    return (seed * 3000)[: int.from_bytes(seed[:2], "big")]


def literal(*fields: tuple[str, str]) -> bytes:
    """A header block that takes nothing from any table, whatever has become of it."""
    out = bytearray()
    for field in fields:
        out += b"\0"
        for text in field:
            data = text.encode()
            assert len(data) < 127
            out += bytes((len(data),)) + data
    return bytes(out)


def right(stream: int, path: str) -> list[bytes]:
    """The frames of the right answer."""
    body = content(path)
    head = literal((":status", "200"), ("content-length", str(len(body))), ("x-path", path[-100:]))
    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)] or [b""]
    return [
        frame(HEADERS, END_HEADERS, stream, head),
        *(frame(DATA, END_STREAM if piece is pieces[-1] else 0, stream, piece) for piece in pieces),
    ]


@dataclass
class Batch:
    """Answers that are under way together. `clean` is the stream that has to stay as it is, 0 if none has to."""

    clean: int
    streams: dict[int, str]
    """All of them, with their paths."""
    encoder: hpack.Encoder
    """Of the connection; its table is only used for what may go wrong."""


def undamaged(data: bytes, batch: Batch) -> bool:
    """Whether whoever reads these bytes frame by frame finds the clean answer among them, and no frame too large."""
    wanted = right(batch.clean, batch.streams[batch.clean])
    position = 0
    while position < len(data):
        end = position + 9 + int.from_bytes(data[position : position + 3], "big")
        if end > len(data) or end - position > 16384 + 9:
            return False
        if wanted and data[position:end] == wanted[0]:
            del wanted[0]
        position = end
    return not wanted


def said(chance: random.Random, batch: Batch) -> bytes:
    """The frames of all answers, in some order, most of them damaged in one way or another."""
    faulty = [stream for stream in batch.streams if stream != batch.clean]
    lanes = [right(batch.clean, batch.streams[batch.clean])] if batch.clean else []
    for stream in faulty:
        lane = _answer(chance, batch, stream)
        for _ in range(chance.choice((0, 1, 1, 2, 3))):
            lane = _damaged(chance, lane, stream, batch.clean)
        lanes.append(lane)
    out = []
    while lanes := [lane for lane in lanes if lane]:
        out.append(chance.choice(lanes).pop(0))
    return b"".join(out)


def _answer(chance: random.Random, batch: Batch, stream: int) -> list[bytes]:
    """An answer that is well formed, or nearly: fields from the table, padding, fragments, trailers."""
    frames = right(stream, batch.streams[stream])
    kind = chance.randrange(8)
    if kind >= 4:
        return frames
    fields = [(":status", chance.choice(("200", "204", "304", "404", "503", "100", "103", "101", "600")))]
    fields += [(chance.choice(_NAMES), chance.choice(_VALUES)) for _ in range(chance.choice((0, 1, 1, 2)))]
    block = batch.encoder.encode(fields)
    end = chance.choice((0, END_STREAM))
    if kind == 0:
        half = chance.randrange(len(block) + 1)
        head = frame(HEADERS, end, stream, block[:half]) + frame(CONTINUATION, END_HEADERS, stream, block[half:])
    elif kind == 1:
        pad = chance.randrange(20)
        head = frame(HEADERS, end | END_HEADERS | 8, stream, bytes((pad,)) + block + b"\0" * chance.choice((pad, 0)))
    else:
        head = frame(HEADERS, end | END_HEADERS, stream, block)
    trailers = frame(HEADERS, END_HEADERS | END_STREAM, stream, batch.encoder.encode([("x-sum", "1")]))
    return [head, *frames[1:], trailers] if chance.random() < 0.5 else [head, *frames]


def _damaged(chance: random.Random, lane: list[bytes], stream: int, clean: int) -> list[bytes]:
    lane = list(lane) or [b""]
    place = chance.randrange(len(lane))
    kind = chance.randrange(8)
    if kind == 0:
        del lane[place]
    elif kind == 1:
        lane.insert(place, lane[place])
    elif kind == 2:
        chance.shuffle(lane)
    elif kind == 3:
        lane[place] = lane[place][: chance.randrange(len(lane[place]) + 1)]
    elif kind == 4:
        lane[place] = _flipped(chance, lane[place], clean)
    elif kind == 5:
        lane.insert(place, chance.randbytes(chance.choice((1, 9, 50))))
    else:
        lane.insert(place, _any(chance, stream))
    return lane


def _flipped(chance: random.Random, data: bytes, clean: int) -> bytes:
    """Some bits of one frame; it does not become one of the clean stream."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 4))):
        if made:
            made[chance.randrange(min(len(made), 40))] ^= 1 << chance.randrange(8)
    ident = int.from_bytes(made[5:9], "big") & (1 << 31) - 1
    return data if ident == clean else bytes(made)


def _any(chance: random.Random, stream: int) -> bytes:
    """A frame that may or may not be allowed."""
    where = chance.choice((0, stream, stream, stream + 1000, 2))
    number = struct.pack(">I", chance.choice(_NUMBERS))
    many = chance.choice((1, 1, 1, 3000))
    return many * chance.choice(
        (
            frame(PING, chance.choice((0, 1)), chance.choice((0, 0, where)), b"8 octets"),
            frame(SETTINGS, 0, 0, struct.pack(">H", chance.randrange(9)) + number),
            frame(SETTINGS, chance.choice((0, 1)), chance.choice((0, where)), b""),
            frame(WINDOW_UPDATE, 0, where, number),
            frame(RST_STREAM, 0, where, struct.pack(">I", chance.randrange(16))),
            frame(GOAWAY, 0, 0, number + struct.pack(">I", chance.randrange(15)) + b"why"),
            frame(PRIORITY, 0, where, b"\0\0\0\0\1"),
            frame(PUSH_PROMISE, END_HEADERS, where, b"\0\0\0\2\x88"),
            frame(DATA, chance.choice((0, 1, 8, 9)), where, b""),
            frame(CONTINUATION, chance.choice((0, END_HEADERS)), where, b"\x88"),
            frame(HEADERS, chance.randrange(256), where, chance.randbytes(chance.randrange(40))),
            frame(chance.randrange(16), chance.randrange(256), where, chance.randbytes(chance.randrange(40))),
        )
    )
