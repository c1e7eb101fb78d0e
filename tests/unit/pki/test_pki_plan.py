from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pki import plan
from pki.plan import Action, CertificatePlan, Decision, Found, PKIError, Role

NOW = datetime(2026, 11, 23, tzinfo=UTC)

AUTHORITY = plan.authority("ca", "some CA")
LEAF = plan.serving("web", ("localhost", "127.0.0.1"), issuer="ca")

GOOD_AUTHORITY = Found(
    has_certificate=True,
    has_key=True,
    key_matches=True,
    signed_by_issuer=True,
    role=Role.AUTHORITY,
    common_name="some CA",
    not_before=NOW - timedelta(days=1),
    not_after=NOW + timedelta(days=3649),
)
GOOD_LEAF = Found(
    has_certificate=True,
    has_key=True,
    key_matches=True,
    signed_by_issuer=True,
    role=Role.SERVER,
    common_name="web",
    sans=frozenset(("localhost", "127.0.0.1")),
    not_before=NOW - timedelta(days=1),
    not_after=NOW + timedelta(days=364),
)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(Found(), Decision(Action.ISSUE, "missing"), id="nothing there"),
        pytest.param(GOOD_LEAF, Decision(Action.KEEP, ""), id="good"),
        pytest.param(
            replace(GOOD_LEAF, has_key=False, key_matches=False), Decision(Action.ISSUE, "key missing"), id="no key"
        ),
        pytest.param(Found(has_key=True), Decision(Action.ISSUE, "certificate missing"), id="no certificate"),
        pytest.param(
            replace(GOOD_LEAF, certificate_problem="not a PEM certificate"),
            Decision(Action.ISSUE, "not a PEM certificate"),
            id="damaged certificate",
        ),
        pytest.param(
            replace(GOOD_LEAF, key_problem="not a PEM private key", key_matches=False),
            Decision(Action.ISSUE, "not a PEM private key"),
            id="damaged key",
        ),
        pytest.param(
            replace(GOOD_LEAF, key_matches=False),
            Decision(Action.ISSUE, "key does not belong to the certificate"),
            id="other key",
        ),
        pytest.param(
            replace(GOOD_LEAF, signed_by_issuer=False),
            Decision(Action.RENEW, "not signed by ca.crt"),
            id="other authority",
        ),
        pytest.param(
            replace(GOOD_LEAF, role=Role.CLIENT), Decision(Action.RENEW, "not a server certificate"), id="other usage"
        ),
        pytest.param(
            replace(GOOD_LEAF, common_name="wob"), Decision(Action.RENEW, "subject changed"), id="other common name"
        ),
        pytest.param(
            replace(GOOD_LEAF, organizations=("system:masters",)),
            Decision(Action.RENEW, "subject changed"),
            id="other organization",
        ),
        pytest.param(
            replace(GOOD_LEAF, sans=frozenset(("localhost", "old.example"))),
            Decision(Action.RENEW, "names changed: +127.0.0.1 -old.example"),
            id="other names",
        ),
        pytest.param(replace(GOOD_LEAF, not_after=NOW), Decision(Action.RENEW, "expired on 2026-11-23"), id="expired"),
        pytest.param(
            replace(GOOD_LEAF, not_before=NOW + timedelta(minutes=1)),
            Decision(Action.RENEW, "not valid before 2026-11-23 00:01"),
            id="from the future",
        ),
        pytest.param(
            replace(GOOD_LEAF, not_before=NOW - timedelta(days=300), not_after=NOW + timedelta(days=65)),
            Decision(Action.RENEW, "expires on 2027-01-27"),
            id="in its last third",
        ),
    ],
)
def test_decide_about_a_leaf(found: Found, expected: Decision) -> None:
    assert plan.decide(LEAF, found, NOW) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(Found(), Decision(Action.ISSUE, "missing"), id="nothing there"),
        pytest.param(GOOD_AUTHORITY, Decision(Action.KEEP, ""), id="good"),
        pytest.param(replace(GOOD_AUTHORITY, common_name="my own CA"), Decision(Action.KEEP, ""), id="brought along"),
        pytest.param(
            replace(GOOD_AUTHORITY, has_key=False, key_matches=False), Decision(Action.KEEP, ""), id="key elsewhere"
        ),
        pytest.param(Found(has_key=True), Decision(Action.RENEW, "certificate missing"), id="no certificate"),
        pytest.param(
            Found(has_key=True, has_certificate=True, certificate_problem="not a PEM certificate"),
            Decision(Action.RENEW, "not a PEM certificate"),
            id="damaged certificate",
        ),
        pytest.param(
            replace(GOOD_AUTHORITY, not_after=NOW - timedelta(days=1)),
            Decision(Action.RENEW, "expired on 2026-11-22"),
            id="expired",
        ),
    ],
)
def test_decide_about_an_authority(found: Found, expected: Decision) -> None:
    assert plan.decide(AUTHORITY, found, NOW) == expected


@pytest.mark.parametrize(
    ("found", "text"),
    [
        pytest.param(
            replace(GOOD_AUTHORITY, key_matches=False), "ca.key does not belong to ca.crt; an authority", id="other key"
        ),
        pytest.param(
            replace(GOOD_AUTHORITY, key_problem="not a PEM private key", key_matches=False),
            "ca.key: not a PEM private key; an authority",
            id="damaged key",
        ),
        pytest.param(
            Found(has_key=True, key_problem="not a PEM private key"), "ca.key: not a PEM private key", id="only bad key"
        ),
        pytest.param(
            replace(GOOD_AUTHORITY, role=Role.SERVER), "ca.crt: not the certificate of an authority", id="a leaf"
        ),
        pytest.param(
            replace(GOOD_AUTHORITY, has_key=False, not_after=NOW),
            "ca.crt: expired on 2026-11-23, and ca.key is missing",
            id="expired without key",
        ),
        pytest.param(
            Found(has_certificate=True, certificate_problem="not a PEM certificate"),
            "ca.crt: not a PEM certificate, and ca.key is missing",
            id="damaged without key",
        ),
    ],
)
def test_an_authority_is_never_replaced_on_its_own(found: Found, text: str) -> None:
    with pytest.raises(PKIError) as caught:
        plan.decide(AUTHORITY, found, NOW)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("lifetime_days", "margin_days"),
    [
        pytest.param(3650, 3650 / 3, id="an authority: a third"),
        pytest.param(365, 365 / 3, id="a year: a third"),
        pytest.param(60, 30, id="two months: 30 days"),
        pytest.param(10, 5, id="ten days: half"),
    ],
)
def test_renew_after(lifetime_days: float, margin_days: float) -> None:
    end = NOW + timedelta(days=lifetime_days)
    assert plan.renew_after(NOW, end) == end - timedelta(days=margin_days)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("localhost", "localhost", id="plain"),
        pytest.param("FOO.Example.", "foo.example", id="case and final dot"),
        pytest.param("*.example.org", "*.example.org", id="wildcard"),
        pytest.param("127.0.0.1", "127.0.0.1", id="ipv4"),
        pytest.param("0:0:0:0:0:0:0:1", "::1", id="ipv6"),
        pytest.param("[::1]", "::1", id="ipv6 in brackets"),
    ],
)
def test_normalize_san(text: str, expected: str) -> None:
    assert plan.normalize_san(text) == expected


@pytest.mark.parametrize("text", ["", "a b", "https://x", "-a", "a..b", "ü.example", "*.", "x" * 64, "a\n"])
def test_normalize_san_refuses(text: str) -> None:
    with pytest.raises(PKIError, match="is neither an IP address nor a DNS name"):
        plan.normalize_san(text)


def test_development_plan_names_every_authority_before_what_it_signs() -> None:
    plans = plan.development_plan()
    names = [entry.name for entry in plans]
    assert sorted(names) == sorted(
        ["ca", "client-ca", "front-proxy-ca", "aggregator", "example-apiserver", "front-proxy-client", "admin"]
    )
    for entry in plans:
        assert not entry.issuer or names.index(entry.issuer) < names.index(entry.name)


def test_development_plan_keeps_the_front_proxy_apart_from_users() -> None:
    plans: dict[str, CertificatePlan] = {entry.name: entry for entry in plan.development_plan()}
    proxy, admin = plans["front-proxy-client"], plans["admin"]
    assert (proxy.common_name, proxy.organizations, proxy.issuer) == ("aggregator", (), "front-proxy-ca")
    assert (admin.common_name, admin.organizations, admin.issuer) == ("grafana-admin", ("system:masters",), "client-ca")


def test_names_are_added_to_the_usual_ones_each_once() -> None:
    plans = {entry.name: entry for entry in plan.development_plan(aggregator_sans=["LOCALHOST", "api.example"])}
    assert plans["aggregator"].sans == ("localhost", "aggregator", "127.0.0.1", "::1", "api.example")
    assert plans["example-apiserver"].sans == plan.EXAMPLE_SANS


def test_an_authority_outlives_what_it_signs() -> None:
    plans = plan.development_plan(days=3650)
    assert {entry.lifetime.days for entry in plans if entry.role is Role.AUTHORITY} == {4 * 3650}


@pytest.mark.parametrize(
    ("options", "found", "action"),
    [
        pytest.param({"forced": True}, GOOD_LEAF, Action.RENEW, id="asked for"),
        pytest.param({"forced": True, "new_key": True}, GOOD_LEAF, Action.ISSUE, id="asked for with a new key"),
        pytest.param({"new_key": True}, GOOD_LEAF, Action.KEEP, id="a new key is no reason of its own"),
        pytest.param({"new_key": True}, replace(GOOD_LEAF, not_after=NOW), Action.ISSUE, id="due, with a new key"),
        pytest.param({"forced": True, "new_key": True}, Found(), Action.ISSUE, id="missing"),
    ],
)
def test_decide_when_asked_for(options: dict[str, bool], found: Found, action: Action) -> None:
    assert plan.decide(LEAF, found, NOW, **options).action is action


def test_an_authority_never_gets_a_new_key_by_renewal() -> None:
    decision = plan.decide(AUTHORITY, GOOD_AUTHORITY, NOW, forced=True, new_key=True)
    assert decision == Decision(Action.RENEW, "asked for")


def test_plan_of_what_is_there() -> None:
    found = replace(GOOD_LEAF, sans=frozenset(("b.example", "a.example")), common_name="mine")
    planned = plan.plan_of(LEAF, found)
    assert (planned.name, planned.issuer, planned.role) == ("web", "ca", Role.SERVER)
    assert (planned.common_name, planned.sans) == ("mine", ("a.example", "b.example"))
    assert planned.lifetime == timedelta(days=365) - plan.BACKDATE
    assert plan.plan_of(LEAF, found, days=7).lifetime == timedelta(days=7)
    assert plan.decide(planned, found, NOW) == Decision(Action.KEEP, "")


def test_plan_of_an_authority_keeps_it_long_lived() -> None:
    planned = plan.plan_of(AUTHORITY, replace(GOOD_AUTHORITY, common_name="mine"), days=7)
    assert (planned.common_name, planned.lifetime) == ("mine", timedelta(days=plan.AUTHORITY_DAYS))


@pytest.mark.parametrize(
    ("name", "following"),
    [
        pytest.param("some CA", "some CA G2", id="first"),
        pytest.param("some CA G2", "some CA G3", id="second"),
        pytest.param("some CA G9", "some CA G10", id="tenth"),
        pytest.param("BIG2", "BIG2 G2", id="no generation in a word"),
    ],
)
def test_next_generation(name: str, following: str) -> None:
    assert plan.next_generation(name) == following


@pytest.mark.parametrize(
    ("issuer_end", "end"),
    [
        pytest.param(None, NOW + timedelta(days=10), id="alone"),
        pytest.param(NOW + timedelta(days=99), NOW + timedelta(days=10), id="issuer lives longer"),
        pytest.param(NOW + timedelta(days=3), NOW + timedelta(days=3), id="never longer than its issuer"),
    ],
)
def test_validity(issuer_end: datetime | None, end: datetime) -> None:
    moment = NOW + timedelta(microseconds=7)
    assert plan.validity(timedelta(days=10), moment, issuer_end) == (NOW - plan.BACKDATE, end)


@given(entropy=st.binary(min_size=plan.SERIAL_BYTES, max_size=plan.SERIAL_BYTES))
def test_serial_numbers_are_positive_and_fit(entropy: bytes) -> None:
    serial = plan.serial_number(entropy)
    assert serial > 0
    # In DER an integer has a bit for its sign.
    assert serial.bit_length() // 8 + 1 == 20


def test_serial_numbers_keep_the_entropy() -> None:
    found = {plan.serial_number(number.to_bytes(plan.SERIAL_BYTES)) for number in range(0, 4096, 4)}
    assert len(found) == 1024
    with pytest.raises(ValueError, match="20 bytes are needed"):
        plan.serial_number(b"short")
