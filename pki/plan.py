"""What the PKI consists of, and whether a certificate found on disk still fits. Pure: the clock is an argument."""

import dataclasses
import enum
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

DEFAULT_DAYS = 365
"""Lifetime of serving and client certificates; some platforms refuse serving certificates of more than 398 days."""

AUTHORITY_DAYS = 3650
"""Lifetime of a certificate authority at least; it is renewed with its own key, so what it signed stays valid."""

RENEW_BEFORE = timedelta(days=30)

BACKDATE = timedelta(minutes=5)
"""How far notBefore lies in the past, so that a machine whose clock is a little behind accepts a fresh certificate."""

SERIAL_BYTES = 20
"""Random bytes that a serial number is made of."""

AGGREGATOR_SANS = ("localhost", "aggregator", "127.0.0.1", "::1")
EXAMPLE_SANS = (
    "example-service",
    "localhost",
    "127.0.0.1",
    "v0alpha1.example.grafana.app.default.svc",
    "example-apiserver.grafana.svc",
)

_GENERATION = re.compile(r" G(\d{1,6})$")
_DNS_NAME = re.compile(r"(\*\.)?([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?")


class PKIError(Exception):
    """Certificates cannot be issued as asked; the text is one line for the person at the terminal."""


class Role(enum.Enum):
    AUTHORITY = "ca"
    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatePlan:
    """One certificate with its key: `<name>.crt` and `<name>.key`."""

    name: str
    role: Role
    common_name: str
    organizations: tuple[str, ...] = ()
    sans: tuple[str, ...] = ()
    """Subject alternative names in normal form: DNS names in lower case, IP addresses in their shortest text."""
    issuer: str = ""
    """Name of the authority that signs; empty for an authority, which signs itself."""
    lifetime: timedelta = timedelta(days=DEFAULT_DAYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What lies on disk for one plan. The fields after `key_problem` are meaningful only with a certificate."""

    has_certificate: bool = False
    has_key: bool = False
    certificate_problem: str = ""
    """Why the certificate file is not usable, e.g. `not a PEM certificate`."""
    key_problem: str = ""
    key_matches: bool = False
    signed_by_issuer: bool = False
    role: Role | None = None
    common_name: str = ""
    organizations: tuple[str, ...] = ()
    sans: frozenset[str] = frozenset()
    not_before: datetime = datetime.min
    not_after: datetime = datetime.min


class Action(enum.Enum):
    KEEP = "kept"
    RENEW = "renewed"
    """A new certificate for the key that is there."""
    ISSUE = "issued"
    """A new key and a new certificate."""


@dataclass(frozen=True, slots=True)
class Decision:
    action: Action
    reason: str


def normalize_san(text: str) -> str:
    """The normal form of a subject alternative name; PKIError when it is neither an IP address nor a DNS name."""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        name = text.lower().removesuffix(".")
    if len(name) > 253 or not _DNS_NAME.fullmatch(name):
        raise PKIError(f"{text!r} is neither an IP address nor a DNS name")
    return name


def normalize_sans(names: Sequence[str]) -> tuple[str, ...]:
    """Normal forms in the given order, each once."""
    return tuple(dict.fromkeys(normalize_san(name) for name in names))


def authority(name: str, common_name: str, *, days: int = DEFAULT_DAYS) -> CertificatePlan:
    """An authority that outlives what it signs for `days` several times over."""
    lifetime = timedelta(days=max(AUTHORITY_DAYS, 4 * days))
    return CertificatePlan(name=name, role=Role.AUTHORITY, common_name=common_name, lifetime=lifetime)


def serving(name: str, sans: Sequence[str], *, issuer: str, days: int = DEFAULT_DAYS) -> CertificatePlan:
    return CertificatePlan(
        name=name,
        role=Role.SERVER,
        common_name=name,
        sans=normalize_sans(sans),
        issuer=issuer,
        lifetime=timedelta(days=days),
    )


def client(
    name: str, common_name: str, *, issuer: str, organizations: tuple[str, ...] = (), days: int = DEFAULT_DAYS
) -> CertificatePlan:
    return CertificatePlan(
        name=name,
        role=Role.CLIENT,
        common_name=common_name,
        organizations=organizations,
        issuer=issuer,
        lifetime=timedelta(days=days),
    )


def development_plan(
    *, aggregator_sans: Sequence[str] = (), example_sans: Sequence[str] = (), days: int = DEFAULT_DAYS
) -> tuple[CertificatePlan, ...]:
    """The whole development PKI; authorities come before what they sign. Names given are added to the usual ones."""
    return (
        *self_issued_plan((*AGGREGATOR_SANS, *aggregator_sans), days=days),
        authority("front-proxy-ca", "API aggregator front-proxy CA", days=days),
        serving("example-apiserver", (*EXAMPLE_SANS, *example_sans), issuer="ca", days=days),
        client("front-proxy-client", "aggregator", issuer="front-proxy-ca", days=days),
    )


def self_issued_plan(serving_sans: Sequence[str], *, days: int = DEFAULT_DAYS) -> tuple[CertificatePlan, ...]:
    """What an aggregator alone needs to serve TLS and to let one administrator in."""
    return (
        authority("ca", "API aggregator serving CA", days=days),
        authority("client-ca", "API aggregator client CA", days=days),
        serving("aggregator", serving_sans, issuer="ca", days=days),
        client("admin", "grafana-admin", issuer="client-ca", organizations=("system:masters",), days=days),
    )


def plan_of(known: CertificatePlan, found: Found, *, days: int | None = None) -> CertificatePlan:
    """The plan of a certificate that is there: the same identity and names again, not those of the usual plan.

    It lives as long as the found one did, or for `days`. `known` tells its files and its issuer.
    """
    lifetime = timedelta(days=days) if days is not None else found.not_after - found.not_before - BACKDATE
    if known.role is Role.AUTHORITY:
        return dataclasses.replace(known, common_name=found.common_name, lifetime=max(lifetime, known.lifetime))
    return dataclasses.replace(
        known,
        common_name=found.common_name,
        organizations=found.organizations,
        sans=tuple(sorted(found.sans)),
        lifetime=max(lifetime, timedelta(days=1)),
    )


def next_generation(common_name: str) -> str:
    """The common name of the authority that follows: `CA`, `CA G2`, `CA G3`.

    Two authorities with one name and two keys are legal, but some verifiers try the first of them only.
    """
    found = _GENERATION.search(common_name)
    if found is None:
        return f"{common_name} G2"
    return f"{common_name[: found.start()]} G{int(found[1]) + 1}"


def validity(lifetime: timedelta, now: datetime, issuer_end: datetime | None = None) -> tuple[datetime, datetime]:
    """notBefore and notAfter, in whole seconds. A certificate never outlives its issuer."""
    start = (now - BACKDATE).replace(microsecond=0)
    end = start + lifetime + BACKDATE
    return start, end if issuer_end is None else min(end, issuer_end)


def serial_number(entropy: bytes) -> int:
    """A serial number from `SERIAL_BYTES` random bytes: positive and at most 20 octets in DER (RFC 5280 4.1.2.2)."""
    if len(entropy) != SERIAL_BYTES:
        raise ValueError(f"{SERIAL_BYTES} bytes are needed")
    # The top bit is the sign in DER; the one below it is set, so that no serial number is 0 or short.
    return (int.from_bytes(entropy) >> 2) | 1 << (SERIAL_BYTES * 8 - 2)


def renew_after(not_before: datetime, not_after: datetime) -> datetime:
    """From when on a certificate counts as expiring soon.

    A third of the lifetime or 30 days before the end, whichever is earlier, yet never in the first half: otherwise a
    certificate made for a few days would be replaced on every run.
    """
    lifetime = not_after - not_before
    margin = min(max(lifetime / 3, RENEW_BEFORE), lifetime / 2)
    return not_after - margin


def expiry_problem(found: Found, now: datetime) -> str:
    """Why the validity period asks for a new certificate; empty when it does not."""
    if now >= found.not_after:
        return f"expired on {found.not_after:%Y-%m-%d}"
    if now < found.not_before:
        return f"not valid before {found.not_before:%Y-%m-%d %H:%M}"
    if now >= renew_after(found.not_before, found.not_after):
        return f"expires on {found.not_after:%Y-%m-%d}"
    return ""


def decide(
    plan: CertificatePlan, found: Found, now: datetime, *, forced: bool = False, new_key: bool = False
) -> Decision:
    """Keep, renew or issue; PKIError when only a person may decide, that is, when an authority would be lost.

    A leaf keeps a key that is good, unless a `new_key` is asked for: then one file changes, and key and certificate
    match at every moment. `forced` makes a new certificate of one that is good.
    """
    leaf = plan.role is not Role.AUTHORITY
    decision = _decide_leaf(plan, found, now) if leaf else _decide_authority(plan, found, now)
    if decision.action is Action.KEEP and forced:
        decision = Decision(Action.RENEW, "asked for")
    if decision.action is Action.RENEW and leaf and new_key:
        return Decision(Action.ISSUE, decision.reason)
    return decision


def _decide_leaf(plan: CertificatePlan, found: Found, now: datetime) -> Decision:
    damage = _damage(found)
    if damage:
        return Decision(Action.ISSUE, damage)
    problem = _misfit(plan, found) or expiry_problem(found, now)
    return Decision(Action.RENEW, problem) if problem else Decision(Action.KEEP, "")


def _decide_authority(plan: CertificatePlan, found: Found, now: datetime) -> Decision:
    name = plan.name
    by_hand = f"an authority is never replaced on its own: move {name}.crt and {name}.key away to make a new one"
    if not found.has_key and not found.has_certificate:
        return Decision(Action.ISSUE, "missing")
    if found.key_problem:
        raise PKIError(f"{name}.key: {found.key_problem}; {by_hand}")
    usable = found.has_certificate and not found.certificate_problem
    if usable and found.role is not Role.AUTHORITY:
        raise PKIError(f"{name}.crt: not the certificate of an authority; {by_hand}")
    if not found.has_key:
        problem = found.certificate_problem or expiry_problem(found, now)
        if problem:
            raise PKIError(f"{name}.crt: {problem}, and {name}.key is missing; {by_hand}")
        return Decision(Action.KEEP, "")
    if not usable:
        return Decision(Action.RENEW, found.certificate_problem or "certificate missing")
    if not found.key_matches:
        raise PKIError(f"{name}.key does not belong to {name}.crt; {by_hand}")
    problem = expiry_problem(found, now)
    return Decision(Action.RENEW, problem) if problem else Decision(Action.KEEP, "")


def _damage(found: Found) -> str:
    """Why there is no pair that could be kept."""
    if not found.has_certificate and not found.has_key:
        return "missing"
    if not found.has_certificate:
        return "certificate missing"
    if not found.has_key:
        return "key missing"
    if found.certificate_problem or found.key_problem:
        return found.certificate_problem or found.key_problem
    return "" if found.key_matches else "key does not belong to the certificate"


def _misfit(plan: CertificatePlan, found: Found) -> str:
    """Why the certificate is not the one that was planned."""
    if not found.signed_by_issuer:
        return f"not signed by {plan.issuer}.crt"
    if found.role is not plan.role:
        return f"not a {plan.role.value} certificate"
    if (found.common_name, found.organizations) != (plan.common_name, plan.organizations):
        return "subject changed"
    if found.sans != frozenset(plan.sans):
        changes = sorted({f"+{name}" for name in plan.sans if name not in found.sans})
        changes += sorted(f"-{name}" for name in found.sans if name not in plan.sans)
        return f"names changed: {' '.join(changes)}"
    return ""
