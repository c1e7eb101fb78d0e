"""Which addresses of a name are listened on."""

import socket

import pytest

from apiserver import bindable, serving
from apiserver.bindable import Address

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)
HERE, HERE_TOO = (V4, "127.0.0.1"), (V4, "127.0.0.2")
# Addresses for documentation (RFC 5737, 3849): no machine has them.
ELSEWHERE, ELSEWHERE_TOO = (V4, "192.0.2.1"), (V6, "2001:db8::1")


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        pytest.param([HERE], [HERE], id="one"),
        pytest.param([ELSEWHERE], [ELSEWHERE], id="one that is not here"),
        pytest.param([HERE, HERE_TOO], [HERE, HERE_TOO], id="two"),
        pytest.param([ELSEWHERE_TOO, HERE], [HERE], id="IPv6 is off"),
        pytest.param([HERE, ELSEWHERE, HERE_TOO], [HERE, HERE_TOO], id="order is kept"),
        pytest.param([ELSEWHERE, ELSEWHERE_TOO], [ELSEWHERE, ELSEWHERE_TOO], id="none is here"),
    ],
)
def test_what_this_machine_does_not_have_is_left_out(
    found: list[Address], kept: list[Address], caplog: pytest.LogCaptureFixture
) -> None:
    assert bindable.of_this_machine("name", found) == kept
    assert len(caplog.records) == len(found) - len(kept)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "192.0.2.1"])
def test_an_address_is_taken_as_it_is(host: str) -> None:
    assert bindable.names(host) == [host]
    assert [address for _, address in bindable.addresses(host)] == [host]


def test_a_name_becomes_addresses() -> None:
    found = bindable.names("localhost")
    assert "127.0.0.1" in found
    assert found == [address for _, address in bindable.addresses("localhost")]


async def test_an_address_that_is_not_here_is_an_error() -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    with pytest.raises(serving.ListenError, match=r"cannot listen on 192\.0\.2\.1:0: .*"):
        await serving.serve(app, host="192.0.2.1")
