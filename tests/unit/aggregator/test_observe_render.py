"""What is shown of URLs in logs and traces."""

import pytest

from aggregator.observe import render


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        pytest.param("/a?token=x", "/a?token=***", id="token"),
        pytest.param("/a?b=1&access_token=x&c=2", "/a?b=1&access_token=***&c=2", id="between others"),
        pytest.param("/a?accessToken=x", "/a?accessToken=***", id="camel case"),
        pytest.param("/a?accesstoken=x", "/a?accesstoken=***", id="in one word"),
        pytest.param("/a?ID-TOKEN=x", "/a?ID-TOKEN=***", id="upper case"),
        pytest.param("/a?clientSecret=x", "/a?clientSecret=***", id="secret"),
        pytest.param("/a?X-Amz-Signature=x&X-Amz-Date=y", "/a?X-Amz-Signature=***&X-Amz-Date=y", id="signed URL"),
        pytest.param("/a?sv=1&sig=x%3D", "/a?sv=1&sig=***", id="shared access"),
        pytest.param("/a?apikey=x&api_key=y", "/a?apikey=***&api_key=***", id="keys"),
        pytest.param("/a?auth_token=x&auth=y&jwt=z", "/a?auth_token=***&auth=***&jwt=***", id="more names"),
        pytest.param("/a?to%6Ben=x", "/a?to%6Ben=***", id="encoded name"),
        pytest.param("/a?user%5Bpassword%5D=x&u[pwd]=y", "/a?user%5Bpassword%5D=***&u[pwd]=***", id="brackets"),
        pytest.param("/a?my+token=x", "/a?my+token=***", id="a space in the name"),
        pytest.param("/a?token=b=c?d/e", "/a?token=***", id="marks in the value"),
        pytest.param("/a?token=x;b=1&c=2", "/a?token=***&c=2", id="semicolon in the value"),
        pytest.param("/a?b=1;token=x;c=2", "/a?b=1;token=***", id="separated by semicolons"),
        pytest.param("/a?b;token=x", "/a?b;token=***", id="behind a name alone"),
        pytest.param("/a?token=\xff", "/a?token=***", id="not UTF-8"),
        pytest.param("/a?token=x&token=y", "/a?token=***&token=***", id="twice"),
        pytest.param("https://u:p@h/a?token=x", "https://***@h/a?token=***", id="absolute URL with a user"),
        pytest.param("//u:p@h/a", "//u:p@h/a", id="a path that begins with two slashes"),
    ],
)
def test_secrets_in_urls_are_masked(target: str, shown: str) -> None:
    assert render.uri(target.encode("latin-1")) == shown


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a?",
        "/a?&&;=",
        "/a?token",
        "/a?token=&b=1",
        "/a?watch=1&resourceVersion=7&continue=abc&fieldSelector=metadata.name%3Dtoken",
        "/a?labelSelector=token%3Dx,a!=b;c=d",
        "/a?tokens=1&tokenize=2&design=3&author=4&keys=5&assign=6",
        "/apis/token=x?limit=500",
        "https://h/a@b",
        "*",
        "-",
    ],
)
def test_anything_else_is_shown_as_it_came(target: str) -> None:
    assert render.uri(target.encode()) == target


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert render.uri(b"/a\xff?b=\xfe") == "/a\\xff?b=\\xfe"
