"""Compressed documents: for whom, and how often they are compressed."""

import asyncio
import gzip
from collections.abc import Callable

import pytest

from apiserver import zipped
from apiserver.documents import Answer
from apiserver.zipped import ZippedDocuments, accepted

LARGE = b"0123456789abcdef" * (zipped.OVER_BYTES // 16 + 1)


def document(body: bytes = LARGE, tag: str = '"a"', code: int = 200) -> Answer:
    headers = {"content-type": "application/json", "vary": "Accept"}
    return Answer(code, {**headers, "etag": tag} if tag else headers, body)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what was compressed."""
    sizes: list[int] = []
    compress: Callable[..., bytes] = gzip.compress

    def counting(body: bytes, level: int, *, mtime: float) -> bytes:
        sizes.append(len(body))
        return compress(body, level, mtime=mtime)

    monkeypatch.setattr(gzip, "compress", counting)
    return sizes


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("gzip; q=1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("x-gzip", False),
        ("identity", False),
        ("", False),
    ],
)
async def test_who_gets_it_compressed(accept_encoding: str, expected: bool) -> None:
    assert accepted(accept_encoding) is expected
    answer = await ZippedDocuments().answer(document(), accept_encoding)
    assert (answer.headers.get("content-encoding") == "gzip") is expected
    assert (gzip.decompress(answer.body) if expected else answer.body) == LARGE
    assert (answer.headers["vary"], answer.headers["etag"]) == ("Accept, Accept-Encoding", '"a"')


@pytest.mark.parametrize(
    "answer",
    [document(b"small"), document(b"", code=304), document(code=404), document(tag="")],
    ids=["small", "not-modified", "failure", "untagged"],
)
async def test_what_stays_as_it_is(answer: Answer) -> None:
    assert await ZippedDocuments().answer(answer, "gzip") == answer


async def test_each_document_is_compressed_once(counted: list[int]) -> None:
    subject = ZippedDocuments()
    first, *others = await asyncio.gather(*(subject.answer(document(), "gzip") for _ in range(5)))
    assert all(other == first for other in others)
    assert await subject.answer(document(), "gzip") == first
    assert len(counted) == 1
    changed = await subject.answer(document(LARGE + b"x", '"b"'), "gzip")
    assert gzip.decompress(changed.body) == LARGE + b"x"
    assert len(counted) == 2


async def test_a_client_that_leaves_takes_it_from_nobody(counted: list[int]) -> None:
    subject = ZippedDocuments()
    leaving = asyncio.create_task(subject.answer(document(), "gzip"))
    staying = asyncio.create_task(subject.answer(document(), "gzip"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert gzip.decompress((await staying).body) == LARGE
    assert len(counted) == 1


async def test_what_is_kept_is_bounded(counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    subject = ZippedDocuments()
    size = len((await subject.answer(document(tag="0"), "gzip")).body)
    monkeypatch.setattr(zipped, "_KEPT_BYTES", 2 * size)
    for number in (1, 2, 0):
        await subject.answer(document(tag=str(number)), "gzip")
    # The second was in, the third drove out the first.
    assert len(counted) == 4
    await subject.answer(document(tag="2"), "gzip")
    assert len(counted) == 4
