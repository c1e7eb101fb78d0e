"""HTTP/2 conversations that are almost right, as bytes. Pure."""

import random
import struct

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes((kind, flags)) + struct.pack("!I", stream) + payload


def request(encoder: hpack.Encoder, stream: int, path: str, *extra: tuple[str, str], end: bool = True) -> bytes:
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path), *extra]
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, encoder.encode(fields))


_FIELDS = (
    ("x-remote-user", "root"),
    ("X-Remote-User", "root"),
    ("x_remote_group", "system:masters"),
    ("impersonate-user", "root"),
    ("connection", "x-remote-user"),
    ("transfer-encoding", "chunked"),
    ("content-length", "5"),
    ("content-length", "-1"),
    ("te", "gzip"),
    ("host", "other"),
    (":path", "/again"),
    (":protocol", "websocket"),
    ("a", "b\r\nx-remote-user: root"),
    ("a\x00", "b"),
    ("", "empty"),
    ("long", "x" * 3000),
    ("cookie", "a=b"),
)


def conversation(chance: random.Random, group: str, mark: str) -> bytes:
    """A preface, settings, and some frames of which some are wrong; the bytes may be damaged as well."""
    encoder = hpack.Encoder()
    parts = [PREFACE, frame(SETTINGS, 0, 0)]
    stream = -1
    for _ in range(chance.randrange(1, 8)):
        stream += 2
        parts.append(_step(chance, encoder, stream, f"/apis/{group}/v1/{mark}/a{stream}"))
    data = bytearray(b"".join(parts))
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        place = chance.randrange(len(PREFACE), len(data))
        data[place] = chance.randrange(256)
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :]
    return bytes(data)


def _step(chance: random.Random, encoder: hpack.Encoder, stream: int, path: str) -> bytes:
    kind = chance.randrange(12)
    if kind < 4:
        return request(encoder, stream, path)
    if kind == 4:
        return request(encoder, stream, path, chance.choice(_FIELDS))
    if kind == 5:
        length = chance.randrange(20)
        head = request(encoder, stream, path, ("content-length", str(chance.choice((length, 5)))), end=False)
        return head + frame(DATA, END_STREAM, stream, b"x" * length)
    if kind == 6:
        return request(encoder, stream, path, end=False) + frame(RST_STREAM, 0, stream, struct.pack("!I", 8))
    if kind == 7:
        block = encoder.encode([(":method", "GET"), (":scheme", "https"), (":path", path)])
        half = chance.randrange(len(block))
        head = frame(HEADERS, END_STREAM, stream, block[:half])
        return head + frame(CONTINUATION, chance.choice((0, END_HEADERS)), stream, block[half:])
    if kind == 8:
        settings = struct.pack("!HI", chance.randrange(8), chance.choice((0, 1, 100, 65536, 2**31, 2**32 - 1)))
        return frame(SETTINGS, chance.choice((0, 0, 1)), 0, settings) + request(encoder, stream, path)
    if kind == 9:
        update = struct.pack("!I", chance.choice((0, 1, 65535, 2**31 - 1)))
        return frame(WINDOW_UPDATE, 0, chance.choice((0, stream)), update)
    if kind == 10:
        return frame(PING, chance.choice((0, 1)), chance.choice((0, 0, 1)), b"8 octets")
    length = chance.choice((0, 1, 4, 5, 8, 100))
    return frame(chance.randrange(16), chance.randrange(256), chance.randrange(12), chance.randbytes(length))
