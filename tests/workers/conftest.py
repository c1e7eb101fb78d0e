"""The aggregator as a supervisor with two workers and an API server, all of them real processes."""

from collections.abc import Iterator

import pytest

from tests.workers.program import Program


@pytest.fixture
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """`request.param`, where a test gives it, has further lines for the section `server`."""
    started = Program(tmp_path_factory.mktemp("workers"), getattr(request, "param", ""))
    try:
        started.start()
        yield started
    finally:
        started.end()
        # Shown by pytest when the test has failed.
        print(started.logs())  # noqa: T201
