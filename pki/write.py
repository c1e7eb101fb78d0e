"""Brings a directory in line with a plan: keys 0600, certificates 0644, each file replaced as a whole or not at all."""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from pki import authority
from pki.authority import Pair
from pki.plan import Action, CertificatePlan, Decision, Found, PKIError, Role, decide

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened to one certificate, and until when it is valid now."""

    name: str
    action: Action
    reason: str
    not_after: datetime


def write_file(path: Path, data: bytes, *, mode: int, owner: Owner | None = None) -> None:
    """Replace a file atomically and durably. OSError passes; the old content stays when anything fails."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # Mode before owner: afterwards only a privileged process could still change it.
            os.fchmod(file.fileno(), mode)
            if owner is not None:
                _give(file.fileno(), path, owner)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give(target: int | Path, path: Path, owner: Owner) -> None:
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
                _give(path, path, owner)
            for path in directory.rglob("*") if contents else ():
                # Whoever owned the directory may have left a link to somewhere else: that target is not ours to give.
                os.lchown(path, owner.uid, owner.gid)
    except OSError as error:
        raise PKIError(f"{directory}: {error.strerror}") from None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time issue into a directory; where the file system knows no locks, go without."""
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


def issue(
    directory: Path,
    plans: Sequence[CertificatePlan],
    *,
    now: datetime,
    owner: Owner | None = None,
    directory_mode: int = 0o755,
) -> list[Outcome]:
    """Issue what is missing or no longer fits, keep the rest. `now` has a time zone. Raises PKIError.

    Idempotent: a second run with the same plans changes nothing. Modes and owners of kept files are put right.
    """
    own_directory(directory, owner=owner, mode=directory_mode)
    try:
        with _locked(directory):
            pairs: dict[str, Pair] = {}
            return [_settle(directory, plan, pairs, now=now, owner=owner) for plan in plans]
    except OSError as error:
        raise PKIError(f"{error.filename or directory}: {error.strerror}") from None


def _settle(
    directory: Path, plan: CertificatePlan, pairs: dict[str, Pair], *, now: datetime, owner: Owner | None
) -> Outcome:
    certificate_path, key_path = paths(directory, plan.name)
    issuer = pairs[plan.issuer] if plan.issuer else None
    certificate_data, key_data = _read(certificate_path), _read(key_path)
    found = authority.inspect(certificate_data, key_data, issuer.certificate if issuer else None)
    decision = decide(plan, found, now)
    if decision.action is not Action.KEEP:
        pair = _make(plan, decision, issuer, certificate_data, key_data, now)
        if decision.action is Action.ISSUE and pair.key is not None:
            write_file(key_path, authority.key_pem(pair.key), mode=KEY_MODE, owner=owner)
        write_file(certificate_path, authority.certificate_pem(pair.certificate), mode=CERTIFICATE_MODE, owner=owner)
    else:
        pair = Pair(
            authority.load_certificate(certificate_data or b""),
            authority.load_key(key_data) if key_data is not None else None,
        )
    _put_right(certificate_path, CERTIFICATE_MODE, owner)
    if pair.key is not None:
        _put_right(key_path, KEY_MODE, owner)
    if plan.role is Role.AUTHORITY:
        pairs[plan.name] = pair
    return Outcome(
        name=plan.name,
        action=decision.action,
        reason=decision.reason,
        not_after=pair.certificate.not_valid_after_utc,
    )


def _make(
    plan: CertificatePlan,
    decision: Decision,
    issuer: Pair | None,
    certificate_data: bytes | None,
    key_data: bytes | None,
    now: datetime,
) -> Pair:
    if issuer is not None and issuer.key is None:
        raise PKIError(f"{plan.name}.crt has to be issued ({decision.reason}), but {plan.issuer}.key is missing")
    if decision.action is Action.ISSUE or key_data is None:
        key = authority.new_key()
        return Pair(authority.sign(plan, key, issuer=issuer, now=now), key)
    key = authority.load_key(key_data)
    return Pair(authority.sign(plan, key, issuer=issuer, now=now, renews=_previous(certificate_data)), key)


def _previous(certificate_data: bytes | None) -> x509.Certificate | None:
    try:
        return authority.load_certificate(certificate_data) if certificate_data else None
    except ValueError:
        return None


def paths(directory: Path, name: str) -> tuple[Path, Path]:
    """Certificate and key file of a plan."""
    return directory / f"{name}.crt", directory / f"{name}.key"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _put_right(path: Path, mode: int, owner: Owner | None) -> None:
    state = path.stat()
    if owner is not None and (state.st_uid, state.st_gid) != (owner.uid, owner.gid):
        _give(path, path, owner)
    if state.st_mode & 0o777 != mode:
        path.chmod(mode)


def look(directory: Path, plans: Sequence[CertificatePlan]) -> list[tuple[CertificatePlan, Found]]:
    """What is there for each plan, without changing anything. Raises PKIError."""
    certificates: dict[str, x509.Certificate] = {}
    seen: list[tuple[CertificatePlan, Found]] = []
    if not directory.is_dir():
        raise PKIError(f"{directory}: no such directory")
    try:
        for plan in plans:
            certificate_data, key_data = (_read(path) for path in paths(directory, plan.name))
            with contextlib.suppress(ValueError):
                certificates[plan.name] = authority.load_certificate(certificate_data or b"")
            seen.append((plan, authority.inspect(certificate_data, key_data, certificates.get(plan.issuer))))
    except OSError as error:
        raise PKIError(f"{error.filename}: {error.strerror}") from None
    return seen
