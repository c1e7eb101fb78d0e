"""Replaces an authority in three steps (`rotation`), and renews certificates ahead of time.

Each step is a sequence of atomic replacements of single files in an order in which every prefix is a consistent state,
so a step that was interrupted is completed by being called again.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from pki import authority, files, plan, rotation, write
from pki.files import CERTIFICATE_MODE, KEY_MODE
from pki.plan import CertificatePlan, PKIError, Role
from pki.rotation import Situation, Stage, Step
from pki.write import Outcome

_NEXT = "-next"


def renew(
    directory: Path,
    plans: Sequence[CertificatePlan],
    *,
    now: datetime,
    names: Sequence[str] = (),
    every: bool = False,
    new_keys: bool = False,
    days: int | None = None,
) -> list[Outcome]:
    """Make new certificates of what is there and close to its end, of `names`, or of `every` leaf; authorities stay.

    Subjects and names are those of the certificates that are there; `days` sets another lifetime. Raises PKIError.
    """
    with _opened(directory):
        present = _present(directory, plans, days)
        unknown = sorted(set(names) - {one.name for one in present})
        if unknown:
            raise PKIError(f"{directory}: no certificate {unknown[0]}.crt")
        if names:
            issuers = {one.issuer for one in present if one.name in names}
            present = [one for one in present if one.name in names or one.name in issuers]
        forced = [one.name for one in present if every and one.role is not Role.AUTHORITY]
        return write.settle(directory, present, now=now, forced=[*forced, *names], new_keys=new_keys)


def _present(directory: Path, plans: Sequence[CertificatePlan], days: int | None) -> list[CertificatePlan]:
    """The plans of the certificates that are there, as they are there."""
    found = []
    for seen in write.look(directory, plans):
        if seen.found.certificate_problem:
            raise PKIError(f"{seen.plan.name}.crt: {seen.found.certificate_problem}")
        if seen.found.has_certificate:
            found.append(plan.plan_of(seen.plan, seen.found, days=days))
    return found


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[None]:
    """The directory, locked; errors of the file system as PKIError."""
    if not directory.is_dir():
        raise PKIError(f"{directory}: no such directory")
    try:
        with files.locked(directory):
            yield
    except OSError as error:
        raise PKIError(f"{error.filename or directory}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Report:
    """What a step did, one line each, and where the rotation stands now."""

    done: tuple[str, ...]
    situation: Situation


def status(directory: Path, name: str, plans: Sequence[CertificatePlan]) -> Situation:
    """Where the rotation of an authority stands. Raises PKIError."""
    with _opened(directory):
        return _Rotation(directory, name, plans).situation()


def advance(directory: Path, name: str, step: Step, plans: Sequence[CertificatePlan], *, now: datetime) -> Report:
    """Do one step. Idempotent; PKIError when the step is out of turn or a file is not usable."""
    with _opened(directory):
        rotated = _Rotation(directory, name, plans)
        rotation.check(step, rotated.situation())
        if step is Step.TRUST:
            done = rotated.trust(now)
        elif step is Step.SWITCH:
            done = rotated.switch(now)
        else:
            done = rotated.finish()
        return Report(tuple(done), rotated.situation())


class _Rotation:
    """The files of one authority, of the one that follows it, and of what they sign."""

    def __init__(self, directory: Path, name: str, plans: Sequence[CertificatePlan]) -> None:
        self._directory = directory
        self._name = name
        self._plans = [one for one in plans if name in (one.name, one.issuer)]
        self._bundle_file, self._key_file = files.paths(directory, name)
        self._next_file, self._next_key_file = files.paths(directory, name + _NEXT)
        if not self._bundle_file.exists() or not self._key_file.exists():
            raise PKIError(f"{directory}: {name}.crt and {name}.key are needed to rotate the authority")
        self._owner = files.owner_of(self._bundle_file)

    def situation(self) -> Situation:
        bundle, key = self._bundle(), self._key(self._key_file)
        current = authority.active(bundle, key)
        if not authority.matches(current, key):
            raise PKIError(f"{self._name}.key belongs to no certificate of {self._name}.crt")
        next_key = self._key(self._next_key_file) if self._next_key_file.exists() else None
        upcoming = [one for one in bundle if next_key is not None and authority.matches(one, next_key)]
        others = [one for one in bundle if one != current and one not in upcoming]
        return Situation(
            name=self._name,
            next_has_key=next_key is not None,
            next_is_trusted=bool(upcoming),
            others=tuple(authority.describe(one).common_name for one in others),
            stale=tuple(self._stale(current)),
        )

    def trust(self, now: datetime) -> list[str]:
        """Make the next authority, key first, and add it to the bundle last."""
        if rotation.stage(self.situation()) is Stage.TRUSTED:
            return []
        bundle = self._bundle()
        if not self._next_key_file.exists():
            self._write(self._next_key_file, authority.key_pem(authority.new_key()), KEY_MODE)
        key = self._key(self._next_key_file)
        present = authority.describe(authority.active(bundle, self._key(self._key_file)))
        days = (present.not_after - present.not_before) // timedelta(days=1)
        common_name = plan.next_generation(present.common_name)
        made = authority.sign(plan.authority(self._name, common_name, days=days // 4), key, issuer=None, now=now)
        self._write(self._next_file, authority.certificate_pem(made), CERTIFICATE_MODE)
        self._write(self._bundle_file, authority.bundle_pem([*bundle, made]), CERTIFICATE_MODE)
        return [f"{self._name}.crt trusts {common_name} as well"]

    def switch(self, now: datetime) -> list[str]:
        """Let the next authority sign. One rename makes it so: its certificate is in the bundle already."""
        done = []
        if self._next_key_file.exists():
            self._next_key_file.replace(self._key_file)
            files.sync_directory(self._directory)
            done.append(f"{self._name}.key is the key of the next authority")
        self._next_file.unlink(missing_ok=True)
        bundle, key = self._bundle(), self._key(self._key_file)
        first = authority.active(bundle, key)
        if bundle[0] != first:
            ordered = [first, *(one for one in bundle if one != first)]
            self._write(self._bundle_file, authority.bundle_pem(ordered), CERTIFICATE_MODE)
        present = _present(self._directory, self._plans, None)
        outcomes = write.settle(self._directory, present, now=now)
        done += [f"{one.name}.crt is signed by it" for one in outcomes if one.name in self._leaves() and one.reason]
        return done

    def finish(self) -> list[str]:
        """Trust the present authority alone."""
        bundle = self._bundle()
        first = authority.active(bundle, self._key(self._key_file))
        if len(bundle) == 1:
            return []
        self._write(self._bundle_file, authority.certificate_pem(first), CERTIFICATE_MODE)
        return [f"{self._name}.crt trusts {authority.describe(first).common_name} alone"]

    def _leaves(self) -> list[str]:
        return [one.name for one in self._plans if one.issuer == self._name]

    def _stale(self, current: x509.Certificate) -> Iterator[str]:
        for name in self._leaves():
            data = files.read(files.paths(self._directory, name)[0])
            if data is None:
                continue
            try:
                leaf = authority.load_certificate(data)
            except ValueError as error:
                raise PKIError(f"{name}.crt: {error}") from None
            if not authority.signed_by(leaf, current):
                yield name

    def _bundle(self) -> list[x509.Certificate]:
        try:
            return authority.load_bundle(self._bundle_file.read_bytes())
        except ValueError as error:
            raise PKIError(f"{self._bundle_file.name}: {error}") from None

    def _key(self, path: Path) -> CertificateIssuerPrivateKeyTypes:
        try:
            return authority.load_key(path.read_bytes())
        except ValueError as error:
            raise PKIError(f"{path.name}: {error}") from None

    def _write(self, path: Path, data: bytes, mode: int) -> None:
        files.write_file(path, data, mode=mode, owner=self._owner)
