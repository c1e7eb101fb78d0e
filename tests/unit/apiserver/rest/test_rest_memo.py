"""Remembering by identity."""

from apiserver.rest.memo import Memo


def test_the_same_argument_is_worked_on_once() -> None:
    calls: list[tuple[int, ...]] = []

    def total(numbers: tuple[int, ...]) -> list[int]:
        calls.append(numbers)
        return [sum(numbers)]

    memo = Memo(total)
    numbers, equal = tuple([1, 2]), tuple([1, 2])
    assert numbers is not equal
    first = memo(numbers)
    assert memo(numbers) is first
    assert memo(equal) == first
    assert len(calls) == 2


def test_the_oldest_result_is_forgotten() -> None:
    memo: Memo[object, object] = Memo(lambda item: object(), size=2)
    items = [object(), object(), object()]
    results = [memo(item) for item in items]
    assert memo(items[2]) is results[2]
    assert memo(items[1]) is results[1]
    assert memo(items[0]) is not results[0]
