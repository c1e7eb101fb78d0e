"""Acting as somebody else."""

import pytest

from apimachinery.identity import User
from apimachinery.impersonation import Impersonation, impersonated, read, required, service_account
from apimachinery.status import APIError


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ([], None),
        ([("x-user", "a")], None),
        ([("impersonate-user", "a")], Impersonation("a")),
        (
            [
                ("impersonate-group", "g"),
                ("impersonate-user", "a"),
                ("impersonate-group", "h"),
                ("impersonate-uid", "1"),
            ],
            Impersonation("a", "1", ("g", "h")),
        ),
        (
            [("impersonate-user", "a"), ("impersonate-extra-a%2fb", "x"), ("impersonate-extra-a%2fb", "y")],
            Impersonation("a", extra={"a/b": ("x", "y")}),
        ),
        ([("impersonate-user", "a"), ("impersonate-user", "b")], Impersonation("a")),
    ],
)
def test_what_headers_ask_for(headers: list[tuple[str, str]], wanted: Impersonation | None) -> None:
    assert read(headers) == wanted


@pytest.mark.parametrize(
    "headers",
    [
        [("impersonate-group", "g")],
        [("impersonate-user", "")],
        [("impersonate-uid", "1")],
        [("impersonate-extra-a", "1")],
        [("impersonate_user", "a")],
        [("impersonate-user", "a"), ("impersonate_group", "g")],
        [("impersonate-user", "a"), ("impersonate-everything", "g")],
    ],
)
def test_what_cannot_be_asked_for(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(APIError) as caught:
        read(headers)
    assert caught.value.code == 400


def _checks(wanted: Impersonation) -> list[tuple[str, ...]]:
    found = required(wanted)
    assert {(item.verb, item.is_resource) for item in found} == {("impersonate", True)}
    return [(item.group, item.namespace, item.resource, item.subresource, item.name) for item in found]


def test_every_piece_needs_permission() -> None:
    wanted = Impersonation("a", "7", ("g", "h"), {"k": ("x", "y")})
    assert _checks(wanted) == [
        ("", "", "users", "", "a"),
        ("", "", "groups", "", "g"),
        ("", "", "groups", "", "h"),
        ("authentication.k8s.io", "", "userextras", "k", "x"),
        ("authentication.k8s.io", "", "userextras", "k", "y"),
        ("authentication.k8s.io", "", "uids", "", "7"),
    ]
    assert _checks(Impersonation("system:serviceaccount:ns:sa")) == [("", "ns", "serviceaccounts", "", "sa")]


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("system:serviceaccount:ns:sa", ("ns", "sa")),
        ("system:serviceaccount:ns:s.a", ("ns", "s.a")),
        ("system:serviceaccount:ns:sa:x", None),
        ("system:serviceaccount:ns", None),
        ("system:serviceaccount::sa", None),
        ("system:serviceaccount:Ns:sa", None),
        ("ns:sa", None),
    ],
)
def test_names_of_service_accounts(user: str, account: tuple[str, str] | None) -> None:
    assert service_account(user) == account


_SA = "system:serviceaccount:ns:sa"


@pytest.mark.parametrize(
    ("wanted", "groups"),
    [
        (Impersonation("a"), ("system:authenticated",)),
        (Impersonation("a", groups=("g",)), ("g", "system:authenticated")),
        (Impersonation("a", groups=("system:unauthenticated",)), ("system:unauthenticated",)),
        (Impersonation("system:anonymous"), ("system:unauthenticated",)),
        (Impersonation("system:anonymous", groups=("g",)), ("g", "system:unauthenticated")),
        (Impersonation(_SA), ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")),
        (Impersonation(_SA, groups=("g",)), ("g", "system:authenticated")),
    ],
)
def test_the_groups_that_come_along(wanted: Impersonation, groups: tuple[str, ...]) -> None:
    assert impersonated(wanted) == User(wanted.user, groups=groups)
