import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery import listing
from apimachinery.listing import ContinueToken
from apimachinery.status import APIError


@given(st.integers(1, 2**63 - 1) | st.just(-1), st.text(st.characters(codec="utf-8"), min_size=1))
def test_round_trip(revision: int, start: str) -> None:
    token = listing.encode_continue(revision, start)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert listing.decode_continue(token) == ContinueToken(revision, start)


def test_wire_form() -> None:
    token = listing.encode_continue(12, "ns/name\0")
    padded = token + "=" * (-len(token) % 4)
    assert json.loads(base64.urlsafe_b64decode(padded)) == {"v": "meta.k8s.io/v1", "rv": 12, "start": "ns/name\0"}


def token_of(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


V = "meta.k8s.io/v1"
PREFIX = "invalid continue token: continue key is not valid: "


@pytest.mark.parametrize(
    ("token", "message"),
    [
        pytest.param(
            token_of({"v": "other", "rv": 1, "start": "a"}),
            "server does not recognize this encoded version other",
            id="version",
        ),
        pytest.param(
            token_of({"rv": 1, "start": "a"}), "server does not recognize this encoded version ", id="no version"
        ),
        pytest.param(
            token_of({"v": V, "start": "a"}),
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            id="no revision",
        ),
        pytest.param(
            token_of({"v": V, "rv": 0, "start": "a"}),
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            id="zero",
        ),
        pytest.param(
            token_of({"v": V, "rv": -2, "start": "a"}),
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            id="negative",
        ),
        pytest.param(
            token_of({"v": V, "rv": True, "start": "a"}),
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            id="bool",
        ),
        pytest.param(
            token_of({"v": V, "rv": "1", "start": "a"}),
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            id="text",
        ),
        pytest.param(token_of({"v": V, "rv": 1}), "encoded start key empty (version meta.k8s.io/v1)", id="no start"),
        pytest.param(
            token_of({"v": V, "rv": 1, "start": ""}),
            "encoded start key empty (version meta.k8s.io/v1)",
            id="empty start",
        ),
        pytest.param(token_of(["x"]), "the token is not an object", id="list"),
    ],
)
def test_refused(token: str, message: str) -> None:
    with pytest.raises(APIError) as caught:
        listing.decode_continue(token)
    assert (caught.value.code, caught.value.reason, caught.value.message) == (400, "BadRequest", PREFIX + message)


@given(st.text(max_size=30))
def test_garbage_is_refused(token: str) -> None:
    with pytest.raises(APIError) as caught:
        listing.decode_continue(token)
    assert caught.value.code == 400
    assert caught.value.message.startswith(PREFIX)


def test_continue_expired_carries_a_token_for_the_rest() -> None:
    error = listing.continue_expired(ContinueToken(5, "ns/a"))
    assert (error.code, error.reason) == (410, "Expired")
    assert error.message.startswith("The provided continue parameter is too old to display a consistent list result.")
    assert listing.decode_continue(error.status["metadata"]["continue"]) == ContinueToken(-1, "ns/a")


def test_list_expired() -> None:
    error = listing.list_expired()
    assert (error.code, error.reason) == (410, "Expired")
    assert error.message == "The resourceVersion for the provided list is too old."
