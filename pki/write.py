"""Brings a directory in line with a plan: issues what is missing, renews what no longer fits, keeps the rest.

A leaf is renewed with the key that is there: one file changes, so that key and certificate match at every moment. Where
both have to change they are staged first; a run that was interrupted between the two is completed by the next one.
An authority's file may hold further certificates that are trusted too (`rotate`); the one of the key signs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from pki import authority, files
from pki.authority import Pair
from pki.files import CERTIFICATE_MODE, KEY_MODE, Owner
from pki.plan import Action, CertificatePlan, Decision, Found, PKIError, Role, decide

_STAGED = ".new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened to one certificate, and until when it is valid now."""

    name: str
    action: Action
    reason: str
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is there for one plan."""

    plan: CertificatePlan
    found: Found
    others: tuple[Found, ...] = ()
    """Further certificates in an authority's file."""


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
    files.own_directory(directory, owner=owner, mode=directory_mode)
    try:
        with files.locked(directory):
            return settle(directory, plans, now=now, owner=owner)
    except OSError as error:
        raise PKIError(f"{error.filename or directory}: {error.strerror}") from None


def settle(
    directory: Path,
    plans: Sequence[CertificatePlan],
    *,
    now: datetime,
    owner: Owner | None = None,
    forced: Iterable[str] = (),
    new_keys: bool = False,
) -> list[Outcome]:
    """`issue` for a caller that holds the lock and handles OSError.

    `forced` are made anew in any case; with `new_keys`, leaves that are made anew get new keys. Authorities come before
    what they sign. Without an owner, files that root replaces stay with theirs.
    """
    authorities: dict[str, _Authority] = {}
    named = frozenset(forced)
    outcomes: list[Outcome] = []
    for plan in plans:
        files_of = _Files(directory, plan.name, owner)
        files_of.complete()
        found = files_of.inspect(authorities[plan.issuer].signers if plan.issuer else ())
        decision = decide(plan, found, now, forced=plan.name in named, new_key=new_keys)
        pair = _settle(plan, decision, files_of, authorities.get(plan.issuer), now)
        if plan.role is Role.AUTHORITY:
            authorities[plan.name] = _Authority(pair, files_of.bundle())
        outcomes.append(
            Outcome(
                name=plan.name,
                action=decision.action,
                reason=decision.reason,
                not_after=pair.certificate.not_valid_after_utc,
            )
        )
    return outcomes


@dataclass(frozen=True, slots=True)
class _Authority:
    pair: Pair
    bundle: Sequence[x509.Certificate]

    @property
    def signers(self) -> Sequence[x509.Certificate]:
        """What a leaf has to be signed by; where the key is elsewhere, whatever is trusted."""
        return [self.pair.certificate] if self.pair.key is not None else self.bundle


def _settle(
    plan: CertificatePlan, decision: Decision, files_of: "_Files", issuer: _Authority | None, now: datetime
) -> Pair:
    if decision.action is Action.KEEP:
        pair = files_of.pair()
    else:
        if issuer is not None and issuer.pair.key is None:
            raise PKIError(f"{plan.name}.crt has to be issued ({decision.reason}), but {plan.issuer}.key is missing")
        pair = _make(plan, decision, files_of, issuer.pair if issuer else None, now)
        if decision.action is Action.ISSUE:
            files_of.replace_pair(pair)
        else:
            files_of.replace_certificate(pair.certificate, with_bundle=plan.role is Role.AUTHORITY)
    files_of.put_right(key=pair.key is not None)
    return pair


def _make(plan: CertificatePlan, decision: Decision, files_of: "_Files", issuer: Pair | None, now: datetime) -> Pair:
    key_data = files.read(files_of.key)
    if decision.action is Action.ISSUE or key_data is None:
        key = authority.new_key()
        return Pair(authority.sign(plan, key, issuer=issuer, now=now), key)
    key = authority.load_key(key_data)
    previous = next(iter(files_of.bundle()), None) if plan.role is Role.AUTHORITY else None
    return Pair(authority.sign(plan, key, issuer=issuer, now=now, renews=previous), key)


class _Files:
    """The two files of one plan."""

    def __init__(self, directory: Path, name: str, owner: Owner | None) -> None:
        self.certificate, self.key = files.paths(directory, name)
        self._owner = owner
        self._heir = owner or files.owner_of(self.certificate if self.certificate.exists() else directory)
        """Whom new files belong to."""

    def bundle(self) -> list[x509.Certificate]:
        """The certificates, the one of the key first; empty when the file is missing or damaged."""
        try:
            found = authority.load_bundle(files.read(self.certificate) or b"")
        except ValueError:
            return []
        first = authority.active(found, _key(files.read(self.key)))
        return [first, *(one for one in found if one != first)]

    def pair(self) -> Pair:
        return Pair(self.bundle()[0], _key(files.read(self.key)))

    def inspect(self, issuers: Sequence[x509.Certificate]) -> Found:
        return authority.inspect(files.read(self.certificate), files.read(self.key), issuers)

    def replace_certificate(self, certificate: x509.Certificate, *, with_bundle: bool) -> None:
        """A new certificate for the key that is there; in an authority's file the others stay."""
        others = [one for one in self.bundle() if not _same_key(one, certificate)] if with_bundle else []
        self._write(self.certificate, authority.bundle_pem([certificate, *others]), CERTIFICATE_MODE)

    def replace_pair(self, pair: Pair) -> None:
        """Both files. What is interrupted before the first rename leaves the old pair, after it `complete` goes on."""
        if pair.key is None:
            raise ValueError("a pair has a key")
        staged_certificate, staged_key = map(_staged, (self.certificate, self.key))
        self._write(staged_key, authority.key_pem(pair.key), KEY_MODE)
        self._write(staged_certificate, authority.certificate_pem(pair.certificate), CERTIFICATE_MODE)
        self.complete()

    def complete(self) -> None:
        """Put a staged pair in place. The certificate was staged last and is moved last: it tells a whole pair."""
        staged_certificate, staged_key = map(_staged, (self.certificate, self.key))
        if staged_certificate.exists():
            if staged_key.exists():
                staged_key.replace(self.key)
            staged_certificate.replace(self.certificate)
            files.sync_directory(self.key.parent)
        else:
            staged_key.unlink(missing_ok=True)

    def put_right(self, *, key: bool) -> None:
        files.put_right(self.certificate, CERTIFICATE_MODE, self._owner)
        if key:
            files.put_right(self.key, KEY_MODE, self._owner)

    def _write(self, path: Path, data: bytes, mode: int) -> None:
        files.write_file(path, data, mode=mode, owner=self._heir)


def _staged(path: Path) -> Path:
    return path.with_name(path.name + _STAGED)


def _same_key(one: x509.Certificate, other: x509.Certificate) -> bool:
    return one.public_key() == other.public_key()


def look(directory: Path, plans: Sequence[CertificatePlan]) -> list[Seen]:
    """What is there for each plan, without changing anything. Raises PKIError."""
    bundles: dict[str, list[x509.Certificate]] = {}
    seen: list[Seen] = []
    if not directory.is_dir():
        raise PKIError(f"{directory}: no such directory")
    try:
        for plan in plans:
            certificate_data, key_data = (files.read(path) for path in files.paths(directory, plan.name))
            found = authority.inspect(certificate_data, key_data, bundles.get(plan.issuer, ()))
            others: tuple[Found, ...] = ()
            if found.has_certificate and not found.certificate_problem and plan.role is Role.AUTHORITY:
                bundle = bundles[plan.name] = authority.load_bundle(certificate_data or b"")
                first = authority.active(bundle, _key(key_data))
                others = tuple(authority.describe(one) for one in bundle if one != first)
            seen.append(Seen(plan=plan, found=found, others=others))
    except OSError as error:
        raise PKIError(f"{error.filename}: {error.strerror}") from None
    return seen


def _key(data: bytes | None) -> CertificateIssuerPrivateKeyTypes | None:
    try:
        return authority.load_key(data) if data is not None else None
    except ValueError:
        return None
