"""Acting as somebody else: who may, and what the server behind hears."""

import pytest

from aggregator.proxy.decide import Forward, decide
from tests.unit.aggregator.access_kit import (
    IDENTITIES,
    POLICY,
    TABLE,
    message_of,
    outcome_of,
    rows,
)

IMPERSONATION_ROWS = """
boss    viewer                          -                     v1.g
boss    eve                             -                     403
boss    Viewer                          -                     403
boss    viewer                          readers               v1.g
boss    viewer                          system:masters        403
boss    viewer                          readers,other         403
boss    system:anonymous                -                     403
boss    system:serviceaccount:a:robot   -                     v1.g
boss    system:serviceaccount:b:robot   -                     403
boss    system:serviceaccount:a:b:c     -                     403
eve     viewer                          -                     403
eve     eve                             -                     403
master  viewer                          -                     v1.g
master  eve                             -                     403
master  eve                             system:masters        v1.g
master  eve                             readers               v1.g
master  system:serviceaccount:a:robot   other                 403
master  system:anonymous                readers               v1.g
nobody  viewer                          -                     401
refused viewer                          -                     401
"""


@pytest.mark.parametrize(
    ("who", "user", "groups", "outcome"), [pytest.param(*row, id=" ".join(row)) for row in rows(IMPERSONATION_ROWS)]
)
def test_acting_as_somebody_else(who: str, user: str, groups: str, outcome: str) -> None:
    wanted = [("impersonate-user", user)]
    wanted += [("impersonate-group", group) for group in groups.split(",") if group != "-"]
    verdict = decide(TABLE, POLICY, IDENTITIES[who], b"GET", b"/apis/g/v1/namespaces/b/things", wanted)
    assert outcome_of(verdict) == outcome


@pytest.mark.parametrize(
    ("header", "value", "outcome"),
    [
        ("impersonate-uid", "7", "v1.g"),
        ("impersonate-uid", "8", "403"),
        ("impersonate-extra-scopes", "view", "v1.g"),
        ("impersonate-extra-Scopes", "view", "v1.g"),
        ("impersonate-extra-scopes", "edit", "403"),
        ("impersonate-extra-other", "view", "403"),
        ("impersonate-extra-", "view", "400"),
        ("impersonate-foo", "view", "400"),
        ("impersonate_uid", "7", "400"),
        ("impersonate-", "7", "400"),
    ],
)
def test_acting_with_attributes_of_somebody_else(header: str, value: str, outcome: str) -> None:
    wanted = [("impersonate-user", "viewer"), (header.lower(), value)]
    verdict = decide(TABLE, POLICY, IDENTITIES["boss"], b"GET", b"/apis/g/v1/things", wanted)
    assert outcome_of(verdict) == outcome


def test_what_a_refused_impersonation_says() -> None:
    boss = IDENTITIES["boss"]
    path = b"/apis/g/v1/things"
    as_user = decide(TABLE, POLICY, boss, b"GET", path, [("impersonate-user", "eve")])
    assert message_of(as_user) == (
        'users "eve" is forbidden: User "boss" cannot impersonate resource "users" in API group "" at the cluster scope'
    )
    account = decide(
        TABLE, POLICY, IDENTITIES["eve"], b"GET", path, [("impersonate-user", "system:serviceaccount:a:r")]
    )
    assert message_of(account) == (
        'serviceaccounts "r" is forbidden: User "eve" cannot impersonate resource "serviceaccounts" '
        'in API group "" in the namespace "a"'
    )
    wanted = [("impersonate-user", "viewer"), ("impersonate-extra-scopes", "edit")]
    assert message_of(decide(TABLE, POLICY, boss, b"GET", path, wanted)) == (
        'userextras.authentication.k8s.io "edit" is forbidden: User "boss" cannot impersonate resource '
        '"userextras/scopes" in API group "authentication.k8s.io" at the cluster scope'
    )


def test_the_backend_hears_of_the_impersonated_user_alone() -> None:
    wanted = [("impersonate-user", "viewer"), ("impersonate-uid", "7"), ("impersonate-extra-scopes", "view")]
    verdict = decide(TABLE, POLICY, IDENTITIES["boss"], b"GET", b"/apis/g/v1/things", wanted)
    assert isinstance(verdict, Forward)
    assert verdict.identity_lines == (
        b"X-Remote-User: viewer\r\nX-Remote-Uid: 7\r\nX-Remote-Group: system:authenticated\r\n"
        b"X-Remote-Extra-scopes: view\r\n"
    )
