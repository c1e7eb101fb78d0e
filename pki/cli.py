"""The `aggregator-pki` command: issue the development PKI into a directory, and show what lies there."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pki import files, revocation, rotate, rotation, table, write
from pki.files import Owner
from pki.plan import DEFAULT_DAYS, PKIError, Role, development_plan
from pki.rotation import Step
from pki.write import Outcome

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

_ROTATION = """\
Replaces a certificate authority while everything goes on. The steps, in this order:
  trust   make the next authority and trust it beside the present one
  switch  let it sign: every certificate of the old authority is made anew, with its key
  finish  trust the old authority no more
After each step give every server and client the time to load the files again; servers look every second, but copies of
a bundle, in a kubeconfig on another machine say, have to be replaced by hand. A step that was interrupted is completed
by running it again. Without a step: where the rotation stands.
"""
_RAW = argparse.RawDescriptionHelpFormatter
_STATUS = "status"
_DIR = "where `aggregator-pki issue` has put the files"


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
    raw = _RAW
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
    _add_renew(commands)
    _add_rotate(commands)
    _add_revoke(commands)
    show = commands.add_parser("show", help="show what expires when")
    show.add_argument("--dir", type=Path, required=True, help=_DIR)
    return parser


def _add_renew(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    renew = commands.add_parser(
        "renew",
        help="make new certificates of those that are there, before they expire",
        description="Renews what is close to its end, or what is named; subjects, names and authorities stay.",
    )
    renew.add_argument("--dir", type=Path, required=True, help=_DIR)
    chosen = renew.add_mutually_exclusive_group()
    chosen.add_argument("names", nargs="*", default=[], metavar="NAME", help="a certificate, such as aggregator")
    chosen.add_argument("--all", action="store_true", help="every certificate but those of authorities")
    renew.add_argument("--days", type=_days, help="lifetime of the new certificates (default: as before)")
    renew.add_argument("--new-keys", action="store_true", help="make new private keys too")


def _add_rotate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    authorities = [plan.name for plan in development_plan() if plan.role is Role.AUTHORITY]
    rotated = commands.add_parser(
        "rotate-ca", help="replace an authority step by step", description=_ROTATION, formatter_class=_RAW
    )
    rotated.add_argument("name", choices=authorities, metavar="NAME", help=", ".join(authorities))
    steps = [_STATUS, *(step.value for step in Step)]
    rotated.add_argument("step", nargs="?", default=_STATUS, choices=steps, metavar="STEP", help=", ".join(steps))
    rotated.add_argument("--dir", type=Path, required=True, help=_DIR)


def _add_revoke(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    revoke = commands.add_parser(
        "revoke",
        help="put a certificate on the revocation list of its authority",
        description="Writes AUTHORITY.crl beside the authority's certificate; servers that are told of the file follow "
        "it. `renew` signs lists anew before they are outdated.",
    )
    revoke.add_argument("--dir", type=Path, required=True, help=_DIR)
    revoke.add_argument("--authority", default="", metavar="NAME", help="TARGET is a serial number of this authority")
    revoke.add_argument("target", metavar="TARGET", help="a certificate: its name, such as admin, or a PEM file")


def _issue(arguments: argparse.Namespace, now: datetime) -> None:
    plans = development_plan(
        aggregator_sans=arguments.aggregator_san, example_sans=arguments.example_san, days=arguments.days
    )
    for directory in arguments.also_own:
        files.own_directory(directory, owner=arguments.owner, contents=True)
    for outcome in write.issue(arguments.dir, plans, now=now, owner=arguments.owner):
        print(_line(outcome))


def _line(outcome: Outcome) -> str:
    reason = f" ({outcome.reason})" if outcome.reason else ""
    return f"{outcome.action.value:<8} {outcome.name}, valid until {outcome.not_after:%Y-%m-%d}{reason}"


def _renew(arguments: argparse.Namespace, now: datetime) -> None:
    outcomes = rotate.renew(
        arguments.dir,
        development_plan(),
        now=now,
        names=arguments.names,
        every=arguments.all,
        new_keys=arguments.new_keys,
        days=arguments.days,
    )
    for outcome in outcomes:
        print(_line(outcome))
    for line in revocation.lines(
        revocation.renew(arguments.dir, development_plan(), now=now, every=arguments.all), now
    ):
        print(f"renewed  {line}")


def _revoke(arguments: argparse.Namespace, now: datetime) -> None:
    listed, serial = revocation.revoke(
        arguments.dir, development_plan(), arguments.target, now=now, authority_name=arguments.authority
    )
    print(f"revoked  serial number {serial:x}")
    for line in revocation.lines([listed], now):
        print(line)


def _rotate(arguments: argparse.Namespace, now: datetime) -> None:
    plans = development_plan()
    if arguments.step == _STATUS:
        situation = rotate.status(arguments.dir, arguments.name, plans)
    else:
        report = rotate.advance(arguments.dir, arguments.name, Step(arguments.step), plans, now=now)
        situation = report.situation
        for line in report.done or ("nothing to do",):
            print(line)
    print(f"{arguments.name}: {rotation.stage(situation).value}, next step: {rotation.following(situation).value}")


def _show(arguments: argparse.Namespace, now: datetime) -> None:
    for line in table.lines(write.look(arguments.dir, development_plan()), now):
        print(line)
    for line in revocation.lines(revocation.look(arguments.dir, development_plan()), now):
        print(line)


_COMMANDS: dict[str, Callable[[argparse.Namespace, datetime], None]] = {
    "issue": _issue,
    "renew": _renew,
    "revoke": _revoke,
    "rotate-ca": _rotate,
    "show": _show,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `aggregator-pki`. Exit status: 0 done, 1 not possible (one line on stderr), 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    now = datetime.now(UTC)
    try:
        _COMMANDS[arguments.command](arguments, now)
    except PKIError as error:
        print(f"aggregator-pki: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"aggregator-pki: {error.filename or arguments.dir}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
