"""Requests that are almost right: a corpus, and what a seeded random generator makes of it. Pure."""

import random

HEAD = b"Host: localhost\r\nX-Remote-User: mallory\r\n"
CORPUS = (
    b"GET /apis/%b/v1/%c/things HTTP/1.1\r\n" + HEAD + b"\r\n",
    b"GET /apis/%b/v1/%c/things?limit=5&watch=0 HTTP/1.1\r\n" + HEAD + b"Accept: application/json\r\n\r\n",
    b"POST /apis/%b/v1/%c/things HTTP/1.1\r\n" + HEAD + b"Content-Length: 11\r\n\r\nhello world",
    b"POST /apis/%b/v1/%c/things HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"PUT /apis/%b/v1/%c/things/a HTTP/1.1\r\n"
    + HEAD
    + b"Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5;x=1\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
    b"DELETE /apis/%b/v1/%c/things/a HTTP/1.1\r\n" + HEAD + b"Connection: close, X-Remote-Group\r\n\r\n",
    b"HEAD /apis/%b/v1/%c/things/a HTTP/1.0\r\n" + HEAD + b"\r\n",
    b"GET /apis/%b/v1/%c/a HTTP/1.1\r\n" + HEAD + b"\r\nGET /apis/%b/v1/%c/b HTTP/1.1\r\n" + HEAD + b"\r\n",
    b"GET /apis/%b/v1/%c/exec HTTP/1.1\r\n" + HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01x",
    b"POST /apis/%b/v1/%c/things HTTP/1.1\r\n" + HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
)
_PIECES = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b"0",
    b"-1",
    b"ffffffffffffffff",
    b"\r\n ",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"transfer-encoding : chunked\r\n",
    b"Host: other\r\n",
    b"X-Remote-User: root\r\n",
    b"x_remote_user: root\r\n",
    b"X-REMOTE-GROUP: system:masters\r\n",
    b"Connection: X-Remote-User\r\n",
    b"Impersonate-User: root\r\n",
    b"X-Remote-Extra-A: b\r\n",
    b"Upgrade: h2c\r\n",
    b"/../",
    b"%2e%2e/",
    b"%2f",
    b"//",
    b"http://evil/",
    b"HTTP/1.1",
    b"HTTP/0.9",
    b"\xff\xfe",
    b"A" * 300,
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


def request(chance: random.Random, group: bytes, mark: bytes) -> bytes:
    """One request of the corpus, changed in up to six places. `mark` is a segment of its path."""
    data = bytearray(chance.choice(CORPUS).replace(b"%b", group).replace(b"%c", mark))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 6))):
        _CHANGES[chance.randrange(len(_CHANGES))](chance, data)
    return bytes(data)


def _insert(chance: random.Random, data: bytearray) -> None:
    place = chance.randrange(len(data) + 1)
    data[place:place] = chance.choice(_PIECES)


def _insert_line(chance: random.Random, data: bytearray) -> None:
    """Before a line, where what looks like a field is one."""
    starts = [place + 2 for place in range(len(data)) if data[place : place + 2] == b"\r\n"]
    place = chance.choice(starts or [0])
    data[place:place] = chance.choice(_PIECES)


def _flip(chance: random.Random, data: bytearray) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(chance: random.Random, data: bytearray) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.randrange(256)


def _cut(chance: random.Random, data: bytearray) -> None:
    place = chance.randrange(len(data) + 1)
    del data[place : place + chance.choice((1, 2, 10, 1000))]


def _repeat(chance: random.Random, data: bytearray) -> None:
    place = chance.randrange(len(data) + 1)
    data[place:place] = data[place : place + chance.randrange(60)]


def _case(chance: random.Random, data: bytearray) -> None:
    place = chance.randrange(len(data) + 1)
    data[place : place + 12] = data[place : place + 12].swapcase()


_CHANGES = (_insert, _insert_line, _insert_line, _flip, _set, _cut, _repeat, _case)
