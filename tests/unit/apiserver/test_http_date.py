from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial

import pytest

from apiserver import http_date


def test_it_is_the_time_of_day() -> None:
    said = parsedate_to_datetime(http_date.now().decode())
    assert timedelta(0) <= datetime.now(UTC) - said < timedelta(seconds=2)


def test_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for seconds in (0.0, 0.9, 1.0, 86400.5):
        monkeypatch.setattr("time.time", partial(float, seconds))
        found.append(http_date.now())
    monkeypatch.undo()
    assert found == [
        b"Thu, 01 Jan 1970 00:00:00 GMT",
        b"Thu, 01 Jan 1970 00:00:00 GMT",
        b"Thu, 01 Jan 1970 00:00:01 GMT",
        b"Fri, 02 Jan 1970 00:00:00 GMT",
    ]
