import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.options import parse_go_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("+0", 0.0),
        ("34s", 34.0),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("-2ms", -0.002),
        ("+5s", 5.0),
        ("1h2m3.5s", 3723.5),
        ("100ns", 1e-7),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("3μs", 3e-6),
        ("0000000000000000000000001s", 1.0),
        ("0.00000000000000000000000001s", 0.0),
    ],
)
def test_valid(text: str, seconds: float) -> None:
    assert parse_go_duration(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("abc", 'time: invalid duration "abc"'),
        (".s", 'time: invalid duration ".s"'),
        ("3", 'time: missing unit in duration "3"'),
        ("3s4", 'time: missing unit in duration "3s4"'),
        ("3x", 'time: unknown unit "x" in duration "3x"'),
        ("3 s", 'time: unknown unit " s" in duration "3 s"'),
        ("1S", 'time: unknown unit "S" in duration "1S"'),
        ("9999999999h", 'time: invalid duration "9999999999h"'),
        ("9" * 30 + "s", f'time: invalid duration "{"9" * 30}s"'),
        ("--1s", 'time: invalid duration "--1s"'),
        ("1..5s", 'time: missing unit in duration "1..5s"'),
    ],
)
def test_invalid(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_go_duration(text)
    assert str(caught.value) == message


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_terms_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_go_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@given(st.text(alphabet="0123456789.smhuµn-+ x", max_size=12))
def test_nothing_but_value_errors(text: str) -> None:
    try:
        result: float | str = parse_go_duration(text)
    except ValueError as error:
        result = str(error)
        assert result.startswith("time: ")
    assert result is not None
