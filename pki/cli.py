"""The `aggregator-pki` command: issue the development PKI into a directory, and show what lies there."""

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pki import write
from pki.plan import DEFAULT_DAYS, CertificatePlan, Found, PKIError, Role, development_plan, expiry_problem
from pki.write import Outcome, Owner

MAX_DAYS = 3650

_DESCRIPTION = """\
Issues the certificates that an aggregator and its example API server need to trust each other, for development and
tests. Everything is an ECDSA P-256 certificate in PEM; keys are readable by their owner only.
"""

_EPILOG = """\
files in DIR:
  ca                  signs the serving certificates        (--cacert, kubeconfig, apiservice_ca_bundle_file)
  client-ca           signs client certificates of people   (client_ca_file)
  front-proxy-ca      signs the aggregator as a front proxy (--requestheader-client-ca-file)
  aggregator          the aggregator's serving certificate
  example-apiserver   the example API server's serving certificate
  front-proxy-client  what the aggregator shows to the servers behind it (proxy_client_cert_file)
  admin               client certificate of grafana-admin, group system:masters

Running it again keeps what is still good. A certificate that is missing, close to its end or no longer as asked is
issued again; an authority whose key is there is renewed with that key, never replaced.
"""


def _owner(text: str) -> Owner:
    found = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not UID:GID, two numbers")
    return Owner(int(found[1]), int(found[2]))


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 1 to {MAX_DAYS}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="aggregator-pki", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    issue = commands.add_parser(
        "issue", help="issue what is missing or no longer good", epilog=_EPILOG, formatter_class=raw
    )
    issue.add_argument("--dir", type=Path, required=True, help="where the files go; created when missing")
    issue.add_argument(
        "--aggregator-san",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME",
        help="further DNS names or IP addresses of the aggregator",
    )
    issue.add_argument(
        "--example-san",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME",
        help="further DNS names or IP addresses of the example API server",
    )
    issue.add_argument(
        "--days", type=_days, default=DEFAULT_DAYS, help="lifetime of new certificates (default: %(default)s)"
    )
    issue.add_argument(
        "--owner", type=_owner, metavar="UID:GID", help="give directory and files to this user; needs root"
    )
    issue.add_argument(
        "--also-own",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="create this directory too and give it, with its contents, to the owner; may be repeated",
    )
    show = commands.add_parser("show", help="show what expires when")
    show.add_argument("--dir", type=Path, required=True)
    return parser


def _issue(arguments: argparse.Namespace, now: datetime) -> None:
    plans = development_plan(
        aggregator_sans=arguments.aggregator_san, example_sans=arguments.example_san, days=arguments.days
    )
    for directory in arguments.also_own:
        write.own_directory(directory, owner=arguments.owner, contents=True)
    for outcome in write.issue(arguments.dir, plans, now=now, owner=arguments.owner):
        print(_line(outcome))


def _line(outcome: Outcome) -> str:
    reason = f" ({outcome.reason})" if outcome.reason else ""
    return f"{outcome.action.value:<8} {outcome.name}, valid until {outcome.not_after:%Y-%m-%d}{reason}"


def _show(arguments: argparse.Namespace, now: datetime) -> None:
    seen = write.look(arguments.dir, development_plan())
    rows = [("NAME", "EXPIRES", "LEFT", "STATE", "SUBJECT", "NAMES")]
    rows += [_row(plan, found, now) for plan, found in seen]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(plan: CertificatePlan, found: Found, now: datetime) -> tuple[str, str, str, str, str, str]:
    if not found.has_certificate or found.certificate_problem:
        return plan.name, "-", "-", found.certificate_problem or "missing", "-", "-"
    subject = ",".join([*(f"O={name}" for name in found.organizations), f"CN={found.common_name}"])
    left = found.not_after - now
    return (
        plan.name,
        f"{found.not_after:%Y-%m-%d %H:%M}Z",
        f"{left.days}d" if left.days > 0 else f"{max(0, left.seconds // 3600) if left.days == 0 else 0}h",
        _state(plan, found, now),
        subject,
        ",".join(sorted(found.sans)) or "-",
    )


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


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `aggregator-pki`. Exit status: 0 done, 1 not possible (one line on stderr), 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    now = datetime.now(UTC)
    try:
        if arguments.command == "issue":
            _issue(arguments, now)
        else:
            _show(arguments, now)
    except PKIError as error:
        print(f"aggregator-pki: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
