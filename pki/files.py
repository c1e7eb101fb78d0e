"""Files of a PKI directory: keys 0600, certificates 0644, each replaced as a whole or not at all. Knows no X.509."""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pki.plan import PKIError

KEY_MODE = 0o600
CERTIFICATE_MODE = 0o644

_NO_LOCKS = {errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF, errno.ENOLCK}


@dataclass(frozen=True, slots=True)
class Owner:
    """Numeric user and group that files are given to."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


def write_file(path: Path, data: bytes, *, mode: int, owner: Owner | None = None) -> None:
    """Replace a file atomically and durably. OSError passes; the old content stays when anything fails."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # Mode before owner: afterwards only a privileged process could still change it.
            os.fchmod(file.fileno(), mode)
            if owner is not None:
                give(file.fileno(), path, owner)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give(target: int | Path, path: Path, owner: Owner) -> None:
    try:
        os.chown(target, owner.uid, owner.gid)
    except PermissionError:
        raise PKIError(
            f"{path}: cannot be given to {owner}: only root may change owners; run as root or leave the owner out"
        ) from None


def own_directory(directory: Path, *, owner: Owner | None, mode: int = 0o755, contents: bool = False) -> None:
    """Make sure a directory exists and belongs to `owner`; directories made on the way belong to it too.

    With `contents` so does everything in it: what an earlier user of the directory left is usable by the new one.
    """
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(mode=mode, parents=True, exist_ok=True)
        if owner is not None:
            for path in {directory, *made}:
                give(path, path, owner)
            for path in directory.rglob("*") if contents else ():
                # Whoever owned the directory may have left a link to somewhere else: that target is not ours to give.
                os.lchown(path, owner.uid, owner.gid)
    except OSError as error:
        raise PKIError(f"{directory}: {error.strerror}") from None


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let one process at a time change into a directory; where the file system knows no locks, go without."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)


def paths(directory: Path, name: str) -> tuple[Path, Path]:
    """Certificate and key file of a plan."""
    return directory / f"{name}.crt", directory / f"{name}.key"


def read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def put_right(path: Path, mode: int, owner: Owner | None) -> None:
    state = path.stat()
    if owner is not None and (state.st_uid, state.st_gid) != (owner.uid, owner.gid):
        give(path, path, owner)
    if state.st_mode & 0o777 != mode:
        path.chmod(mode)


def owner_of(path: Path) -> Owner | None:
    """Whom a file that root replaces has to stay with; None for everybody else, whose new files are their own."""
    if os.geteuid() != 0:
        return None
    state = path.stat()
    return Owner(state.st_uid, state.st_gid)
