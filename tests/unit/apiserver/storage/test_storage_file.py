"""The file store and a real directory: what lies there, what may be wrong with it, who owns it, how it fails."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from apimachinery.gvk import GroupResource
from apiserver.storage.base import NotFoundError
from apiserver.storage.ceiling import LOST_FILE_MARGIN
from apiserver.storage.directory import DataDirectoryError, DataDirectoryInUseError
from apiserver.storage.file import FileStore
from tests.unit.apiserver.storage.data_directory import DUMMIES, NODES, Failing, key, opened, put, tree


async def test_files(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    async with opened(data) as store:
        await put(store, key("a"), text="é", items=[1, 2])
        await put(store, key("b", "", NODES))
        assert tree(data) == [".lock", ".revision", "core/nodes/b.json", "example.test/dummies/ns/a.json"]
    text = (data / "example.test/dummies/ns/a.json").read_text()
    assert text == (
        "{\n"
        '  "metadata": {\n'
        '    "name": "a",\n'
        '    "namespace": "ns",\n'
        '    "resourceVersion": "2"\n'
        "  },\n"
        '  "spec": {\n'
        '    "items": [\n'
        "      1,\n"
        "      2\n"
        "    ],\n"
        '    "text": "é"\n'
        "  }\n"
        "}\n"
    )
    assert (data / ".revision").read_text() == "3\n"
    for path in [data, *data.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


async def test_every_kind_of_name_survives_a_restart(tmp_path: Path) -> None:
    keys = [
        key("a"),
        key("a", "", DUMMIES),
        key("ns", "", DUMMIES),
        key("system:Admin", "", NODES),
        key("..", "..", GroupResource("core", "..")),
        key("x" * 253),
        key("x" * 252 + "y"),
        key("x.json", "x.json"),
        key("x", "", GroupResource("g", "x.json")),
    ]
    data = tmp_path / "data"
    async with opened(data) as store:
        revisions = {each: await put(store, each) for each in keys}
    async with opened(data) as store:
        assert {each: (await store.get(each)).revision for each in keys} == revisions
        for each in keys:
            await store.delete(each)
    assert tree(tmp_path) == ["data/.lock", "data/.revision"]


async def test_revision_is_exact_after_a_clean_close(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, key("a"))
        await store.delete(key("a"))
    async with opened(tmp_path) as store:
        assert store.revision == 3
        assert await put(store, key("b")) == 4


async def test_lost_revision_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        newest = await put(store, key("a"))
        for _ in range(5):
            await put(store, key("b"))
            await store.delete(key("b"))
    (tmp_path / ".revision").unlink()
    async with opened(tmp_path) as store:
        assert store.revision == newest + LOST_FILE_MARGIN


@pytest.mark.parametrize("content", ["", "x", "-5", "0", "007"])
async def test_damaged_revision_file(tmp_path: Path, content: str) -> None:
    async with opened(tmp_path) as store:
        newest = await put(store, key("a"))
    (tmp_path / ".revision").write_text(content)
    damaged: list[tuple[str, str]] = []
    async with FileStore.open(tmp_path, on_damaged=lambda p, r: damaged.append((p.name, r))) as store:
        assert store.revision == newest + LOST_FILE_MARGIN
    assert damaged == [(".revision.damaged-1", "not a revision")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "is not JSON", id="empty"),
        pytest.param(b'{"metadata": {"na', "is not JSON", id="truncated"),
        pytest.param(b"\xff\xfe", "is not JSON", id="not text"),
        pytest.param(b"[]", "is not an API object", id="list"),
        pytest.param(b'{"metadata": 1}', "is not an API object", id="metadata"),
        pytest.param(b'{"metadata": {"name": "b", "namespace": "ns"}}', "holds another object, ns/b", id="name"),
        pytest.param(b'{"metadata": {"name": "a", "namespace": "x"}}', "holds another object, x/a", id="namespace"),
        pytest.param(b'{"metadata": {"name": 5, "namespace": "ns"}}', "holds another object, ns/5", id="number"),
        pytest.param(
            b'{"metadata": {"name": "a", "namespace": "ns"}}', "has no valid metadata.resourceVersion", id="revision"
        ),
        pytest.param(
            b'{"metadata": {"name": "a", "namespace": "ns", "resourceVersion": "x"}}',
            "has no valid metadata.resourceVersion",
            id="bad revision",
        ),
        pytest.param(
            b'{"metadata": {"name": "a", "namespace": "ns", "resourceVersion": "7"}, "x": '
            + b"[" * 300
            + b"]" * 300
            + b"}",
            "cannot be encoded: ",
            id="too deep",
        ),
    ],
)
async def test_damaged_file_is_set_aside(tmp_path: Path, content: bytes, reason: str) -> None:
    async with opened(tmp_path) as store:
        await put(store, key("a"))
        await put(store, key("good"))
    folder = tmp_path / "example.test/dummies/ns"
    (folder / "a.json").write_bytes(content)
    (folder / "a.json.damaged-1").write_bytes(b"an earlier one")
    damaged: list[tuple[Path, str]] = []
    async with FileStore.open(tmp_path, on_damaged=lambda *found: damaged.append(found)) as store:
        assert [path for path, _ in damaged] == [folder / "a.json.damaged-2"]
        assert damaged[0][1].startswith(reason)
        assert (folder / "a.json.damaged-2").read_bytes() == content
        assert (await store.get(key("good"))).object["metadata"]["name"] == "good"
        with pytest.raises(NotFoundError):
            await store.get(key("a"))
        await put(store, key("a"))
    async with opened(tmp_path) as store:
        assert len((await store.list(DUMMIES)).items) == 2


async def test_unreadable_file_is_set_aside(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, key("a"))
    file = tmp_path / "example.test/dummies/ns/a.json"
    file.unlink()
    file.symlink_to(file)
    damaged: list[str] = []
    async with FileStore.open(tmp_path, on_damaged=lambda _path, reason: damaged.append(reason)):
        pass
    assert damaged == ["cannot be read: " + os.strerror(errno.ELOOP)]


async def test_foreign_files_stay(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, key("a"))
    foreign = [
        "grafana.kubeconfig",
        "notes.json",
        "example.test/x.json",
        "example.test/dummies/README",
        ".git/x/y.json",
    ]
    for name in foreign:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not ours")
    leftovers = [".tmp-revision", "example.test/dummies/.tmp-1", "example.test/dummies/ns/.tmp-7"]
    for name in leftovers:
        (tmp_path / name).write_text("half of an obj")
    async with opened(tmp_path) as store:
        assert len((await store.list(DUMMIES)).items) == 1
    assert set(foreign) <= set(tree(tmp_path))
    assert not set(leftovers) & set(tree(tmp_path))


async def test_one_owner(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(DataDirectoryInUseError) as caught:
            async with opened(tmp_path):
                pass
    assert str(tmp_path) in str(caught.value)
    assert f"process {os.getpid()} on host" in str(caught.value)
    async with opened(tmp_path) as store:
        await put(store, key("a"))


async def test_directory_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(DataDirectoryError, match=r"data directory .*/file cannot be used: File exists"):
        async with opened(path):
            pass


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="/proc is a directory nobody can write to")
async def test_directory_that_cannot_be_written() -> None:
    with pytest.raises(DataDirectoryError, match="data directory /proc cannot be used"):
        async with opened(Path("/proc")):
            pass


async def test_directory_that_cannot_be_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, key("a"))
    files = Failing(lambda call, path: errno.EIO if call == "sync_directory" and path.endswith("dummies") else None)
    with pytest.raises(DataDirectoryError, match="dummies cannot be read: Input/output error"):
        async with opened(tmp_path, files):
            pass
    async with opened(tmp_path):
        pass


CHILD = """
import asyncio, sys
from pathlib import Path
from apimachinery.gvk import GroupResource
from apiserver.storage.base import Key
from apiserver.storage.file import FileStore

async def work(store, writer):
    n = 0
    while True:
        key = Key(GroupResource("example.test", "dummies"), "ns", f"w{writer}-{n}")
        stored = await store.create(key, {"metadata": {"name": key.name, "namespace": "ns"}, "pad": "x" * 2000})
        print("created", key.name, stored.revision, flush=True)
        if n % 3 == 0:
            gone = await store.delete(key)
            print("deleted", key.name, gone.revision, flush=True)
        n += 1

async def main():
    async with FileStore.open(Path(sys.argv[1]), on_damaged=print) as store:
        await asyncio.gather(*(work(store, writer) for writer in range(8)))

asyncio.run(main())
"""


async def test_killed_process(tmp_path: Path) -> None:
    acknowledged: list[tuple[str, str, int]] = []
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if len(acknowledged) == 200:
                os.kill(child.pid, signal.SIGKILL)
            if line.endswith("\n") and len(parts := line.split()) == 3:
                acknowledged.append((parts[0], parts[1], int(parts[2])))
    assert child.returncode == -signal.SIGKILL
    assert len(acknowledged) >= 200
    deleted = {name for verb, name, _ in acknowledged if verb == "deleted"}
    created = {name for verb, name, _ in acknowledged if verb == "created"}
    async with opened(tmp_path) as store:
        found = {item.key.name for item in (await store.list(DUMMIES)).items}
        assert store.revision >= max(revision for _, _, revision in acknowledged)
    assert not found & deleted
    # Of each writer, one more creation or deletion may have happened without being told.
    assert len(created - deleted - found) <= 8
    lost = [name for name in created - deleted - found if int(name.split("-")[1]) % 3 != 0]
    assert lost == [], "only an object that its writer was about to delete may be gone"
    assert not [path for path in tree(tmp_path) if ".tmp-" in path]
