"""Ejection and return of an endpoint, and the budget of retries: pure rules."""

import pytest

from aggregator.proxy.budget import BURST, RetryBudget
from aggregator.proxy.health import EJECTED, HEALTHY, LEAVING, LONGEST_SECONDS, Health


def test_trials_become_rarer_as_they_fail_and_start_anew_after_a_success() -> None:
    subject = Health()
    waits, now = [], 100.0
    for _ in range(8):
        subject.failed(now, None)
        waits.append(subject.trial_at - now)
        now = subject.trial_at
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert subject.rank(now + 1000) == EJECTED
    assert subject.ejections == 1
    assert subject.passed()
    assert not subject.passed()
    assert subject.rank(now) == HEALTHY
    assert subject.failed(now, None)
    assert subject.trial_at == now + 1
    assert subject.ejections == 2


def test_failures_of_one_moment_count_once() -> None:
    subject = Health()
    assert [subject.failed(5.0 + number / 100, None) for number in range(50)] == [True] + [False] * 49
    assert subject.failures == 1
    assert subject.trial_at == 6.0


def test_leaving_ends_by_itself_and_ejection_outranks_it() -> None:
    subject = Health()
    subject.leaving(10.0, 5.0)
    subject.leaving(11.0, 1.0)
    assert [subject.rank(now) for now in (10.0, 14.9, 15.0)] == [LEAVING, LEAVING, HEALTHY]
    subject.failed(11.0, TimeoutError())
    assert subject.rank(12.0) == EJECTED
    assert subject.trial_at - 11.0 <= LONGEST_SECONDS


@pytest.mark.parametrize(
    ("requests", "seconds", "retries"),
    [(0, 0, 0), (0, 1, 10), (100, 0, 20), (100, 1, 30), (10**6, 1, int(BURST))],
    ids=["nothing", "floor", "share", "both", "burst"],
)
def test_requests_and_time_earn_retries(requests: int, seconds: float, retries: int) -> None:
    subject = RetryBudget()
    while subject.spend():
        pass
    subject.earn(requests, seconds)
    made = 0
    while subject.spend():
        made += 1
    assert made == retries
    assert (subject.retries, subject.refused) == (int(BURST) + retries, 2)
