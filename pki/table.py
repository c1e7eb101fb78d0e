"""The table of what expires when. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from pki.plan import CertificatePlan, Found, Role, expiry_problem
from pki.write import Seen

_HEAD = ("NAME", "EXPIRES", "LEFT", "STATE", "SUBJECT", "NAMES")


def lines(seen: Iterable[Seen], now: datetime) -> list[str]:
    """A head, a line for each certificate, and one for each further certificate in the bundle of an authority."""
    rows: list[Sequence[str]] = [_HEAD]
    for one in seen:
        rows.extend(_rows(one, now))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _rows(seen: Seen, now: datetime) -> Iterator[Sequence[str]]:
    plan, found = seen.plan, seen.found
    if not found.has_certificate or found.certificate_problem:
        yield plan.name, "-", "-", found.certificate_problem or "missing", "-", "-"
        return
    yield plan.name, *_dates(found, now), _state(plan, found, now), _subject(found), ",".join(sorted(found.sans)) or "-"
    for other in seen.others:
        state = expiry_problem(other, now) if not other.not_before <= now < other.not_after else "trusted as well"
        yield f"{plan.name} +", *_dates(other, now), state, _subject(other), "-"


def _dates(found: Found, now: datetime) -> tuple[str, str]:
    left = found.not_after - now
    hours = max(0, left.seconds // 3600) if left.days == 0 else 0
    return f"{found.not_after:%Y-%m-%d %H:%M}Z", f"{left.days}d" if left.days > 0 else f"{hours}h"


def _subject(found: Found) -> str:
    return ",".join([*(f"O={name}" for name in found.organizations), f"CN={found.common_name}"])


def _state(plan: CertificatePlan, found: Found, now: datetime) -> str:
    if found.has_key and (found.key_problem or not found.key_matches):
        return found.key_problem or "key does not match"
    if not found.signed_by_issuer:
        return f"not signed by {plan.issuer or 'itself'}"
    if now >= found.not_after or now < found.not_before:
        return expiry_problem(found, now)
    if expiry_problem(found, now):
        return "expires soon"
    if not found.has_key:
        return "ok, key elsewhere" if plan.role is Role.AUTHORITY else "key missing"
    return "ok"
