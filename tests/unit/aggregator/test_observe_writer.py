"""Lines on their way to files: rotation by several writers, full queues, full disks."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aggregator.observe.rotating import RotatingFile
from aggregator.observe.writer import LineWriter


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def text(line: str) -> bytes:
    return line.encode() + b"\n"


class Gate:
    """An output that takes nothing before it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.data = b""

    def write(self, data: bytes) -> None:
        self.open.wait(10)
        self.data += data

    def close(self) -> None: ...


def test_lines_arrive_in_order_and_stop_writes_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    writer = LineWriter(RotatingFile(file), text, name="test", items=1000)
    for number in range(500):
        writer.put(str(number))
    writer.stop()
    assert file.read_text().split() == [str(number) for number in range(500)]
    assert file.stat().st_mode & 0o777 == 0o600
    assert (writer.dropped, writer.failed) == (0, 0)


def test_a_full_queue_drops_and_counts() -> None:
    gate = Gate()
    writer = LineWriter(gate, text, name="test", items=10)
    writer.put("first")
    eventually(lambda: not writer._queue)
    for number in range(25):
        writer.put(str(number))
    assert writer.dropped == 15
    gate.open.set()
    writer.stop()
    assert gate.data.split() == [b"first", *(str(number).encode() for number in range(10))]


def test_bodies_are_bounded_by_their_weight() -> None:
    gate = Gate()
    writer = LineWriter(gate, text, name="test", items=100, held_bytes=100)
    writer.put("first")
    eventually(lambda: not writer._queue)
    for name in "abc":
        writer.put(name, 60)
    writer.put("light")
    assert writer.dropped == 2
    gate.open.set()
    writer.stop()
    assert gate.data.split() == [b"first", b"a", b"light"]


def test_block_waits_for_room() -> None:
    gate = Gate()
    writer = LineWriter(gate, text, name="test", items=2, block=True)
    done = threading.Event()

    def put() -> None:
        for number in range(10):
            writer.put(str(number))
        done.set()

    thread = threading.Thread(target=put)
    thread.start()
    assert not done.wait(0.3)
    gate.open.set()
    assert done.wait(10)
    thread.join()
    writer.stop()
    assert writer.dropped == 0
    assert gate.data.split() == [str(number).encode() for number in range(10)]


def test_a_full_disk_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    writer = LineWriter(RotatingFile(Path("/dev/full")), text, name="test", items=100)
    for _ in range(3):
        writer.put("lost")
        eventually(lambda: not writer._queue)
        time.sleep(0.01)
    eventually(lambda: writer.failed == 3)
    writer.stop()
    told = [record.message for record in caplog.records if record.name == "aggregator.observe"]
    assert told == ["cannot write"]


def test_a_line_that_cannot_be_made_does_not_end_the_others(tmp_path: Path) -> None:
    def picky(line: str) -> bytes:
        if line == "bad":
            raise ValueError("no")
        return text(line)

    file = tmp_path / "log"
    writer = LineWriter(RotatingFile(file), picky, name="test", items=100)
    for line in ("one", "bad", "two"):
        writer.put(line)
    writer.stop()
    assert file.read_text() == "one\ntwo\n"
    assert writer.failed == 1


def backups(file: Path) -> list[Path]:
    return sorted(entry for entry in file.parent.iterdir() if entry != file)


def test_rotation_keeps_so_many(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    other = tmp_path / "audit-notes.log"
    other.write_text("not ours")
    output = RotatingFile(file, max_bytes=100, max_backups=2)
    for number in range(10):
        output.write(f"{number}".encode().ljust(59) + b"\n")
    output.close()
    kept = [entry for entry in backups(file) if entry != other]
    assert [entry.read_text().strip() for entry in (*kept, file)] == ["7", "8", "9"]
    assert all(entry.stat().st_mode & 0o777 == 0o600 for entry in kept)
    assert all(entry.name.startswith("audit-2") and entry.suffix == ".log" for entry in kept)
    assert other.exists()


def test_rotation_removes_old_ones(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    output = RotatingFile(file, max_bytes=10, max_age_days=2)
    output.write(b"123456789\n")
    output.write(b"223456789\n")
    (old,) = backups(file)
    os.utime(old, (time.time() - 3 * 86400,) * 2)
    output.write(b"323456789\n")
    output.close()
    assert [entry.read_text() for entry in backups(file)] == ["223456789\n"]


@pytest.mark.parametrize("gone", ["renamed", "removed"])
def test_a_file_moved_by_others_is_made_anew(tmp_path: Path, gone: str) -> None:
    file = tmp_path / "log"
    output = RotatingFile(file)
    output.write(b"one\n")
    if gone == "renamed":
        file.rename(tmp_path / "log.1")
    else:
        file.unlink()
    output.write(b"two\n")
    output.close()
    assert file.read_text() == "two\n"


_PROCESS = """
import sys
from pathlib import Path
from aggregator.observe.rotating import RotatingFile
output = RotatingFile(Path(sys.argv[1]), max_bytes=20000)
for number in range(400):
    output.write(f"{sys.argv[2]}-{number}".encode().ljust(99, b".") + b"\\n")
"""


def test_processes_share_a_file_and_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    names = ("a", "b", "c")
    running = [subprocess.Popen([sys.executable, "-c", _PROCESS, str(file), name]) for name in names]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    lines = [line for entry in tmp_path.iterdir() for line in entry.read_text().splitlines()]
    assert sorted(line.rstrip(".") for line in lines) == sorted(f"{n}-{i}" for n in names for i in range(400))
    assert len(backups(file)) >= 4
    assert all(entry.stat().st_size <= 20000 + 3 * 100 for entry in tmp_path.iterdir())
