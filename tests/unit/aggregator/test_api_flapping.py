"""How often a server may fall before it has to prove itself."""

import pytest

from aggregator.api.flapping import MOST_CHECKS, Flapping


@pytest.mark.parametrize(("falls", "checks"), [(1, 1), (2, 1), (3, 2), (4, 3), (7, 6), (50, MOST_CHECKS)], ids=str)
def test_each_further_fall_costs_one_more_check(falls: int, checks: int) -> None:
    subject = Flapping(60.0)
    for number in range(falls):
        subject.failed("a", 100.0 + number, fell=True)
    left = [subject.passed("a", 150.0) for _ in range(checks)]
    assert left == list(range(checks - 1, -1, -1))
    assert subject.falls("b", 150.0) == 0


def test_a_failure_in_between_starts_the_proof_anew() -> None:
    subject = Flapping(60.0)
    for number in range(4):
        subject.failed("a", float(number), fell=True)
    assert subject.passed("a", 5.0) == 2
    subject.failed("a", 6.0, fell=False)
    assert [subject.passed("a", 7.0) for _ in range(3)] == [2, 1, 0]


def test_old_falls_are_forgotten() -> None:
    subject = Flapping(60.0)
    for number in range(4):
        subject.failed("a", float(number), fell=True)
    assert subject.falls("a", 61.5) == 2
    assert subject.falls("a", 100.0) == 0
    assert subject.passed("a", 100.0) == 0


def test_a_deleted_key_starts_afresh() -> None:
    subject = Flapping(60.0)
    for _ in range(5):
        subject.failed("a", 1.0, fell=True)
    subject.forget("a")
    assert subject.passed("a", 2.0) == 0
