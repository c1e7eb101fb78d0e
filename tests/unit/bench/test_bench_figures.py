"""The pure parts of the benchmark: what load generators say, percentiles, tables."""

import pytest

from bench.measure import Load, LoadError, Round, Timed, parse_h2load, parse_h2load_log, parse_wrk, percentile
from bench.table import Figure, as_markdown, as_text, skipped

WRK = """Running 3s test @ https://localhost:16444/
  1 threads and 16 connections
  Latency Distribution
     50%    1.55ms
     90%    2.21ms
     99%  {tail}
  32170 requests in {time}, 70.90MB read
Requests/sec:  10723.33
"""
H2LOAD = """starting benchmark...
TLS Protocol: TLSv1.3
Application protocol: {protocol}

finished in 3.00s, 8000.33 req/s, 16.62MB/s
requests: 24001 total, 24129 started, 24001 done, {succeeded} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: {good} 2xx, 0 3xx, {denied} 4xx, 0 5xx
"""


@pytest.mark.parametrize(
    ("tail", "time", "per_second", "milliseconds"),
    [
        ("4.20ms", "3.00s", 32170 / 3, 4.2),
        ("950.00us", "3.00s", 32170 / 3, 0.95),
        ("1.20s", "1.50m", 32170 / 90, 1200.0),
    ],
    ids=["milliseconds", "microseconds", "minutes"],
)
def test_wrk(tail: str, time: str, per_second: float, milliseconds: float) -> None:
    found = parse_wrk(WRK.format(tail=tail, time=time))
    assert found.requests == 32170
    assert found.per_second == pytest.approx(per_second)
    assert found.p99_milliseconds == pytest.approx(milliseconds)


@pytest.mark.parametrize(
    "output",
    [
        "",
        WRK.format(tail="1ms", time="3.00s") + "  Non-2xx or 3xx responses: 7\n",
        WRK.format(tail="1ms", time="3.00s") + "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
    ],
    ids=["nothing", "refused", "broken"],
)
def test_wrk_that_was_not_served(output: str) -> None:
    with pytest.raises(LoadError):
        parse_wrk(output)


GOOD = {"protocol": "h2", "succeeded": 24001, "failed": 0, "good": 24010, "denied": 0}


def test_h2load() -> None:
    assert parse_h2load(H2LOAD.format(**GOOD)) == Load(requests=24001, per_second=8000.33)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"protocol": "http/1.1"}, "not HTTP/2 but http/1.1"),
        ({"failed": 1}, "the load failed"),
        ({"denied": 2}, "the load failed"),
        ({"succeeded": 0}, "the load failed"),
    ],
    ids=["another protocol", "failed", "denied", "no answer"],
)
def test_h2load_that_measured_something_else(change: dict[str, object], text: str) -> None:
    with pytest.raises(LoadError, match=text):
        parse_h2load(H2LOAD.format(**(GOOD | change)))


def test_the_log_of_h2load() -> None:
    text = "1764209412000000\t200\t413\n1764209412500000\t503\t99\n1764209413"
    assert parse_h2load_log(text) == [Timed(1764209412.0, 200, 0.413), Timed(1764209412.5, 503, 0.099)]


@pytest.mark.parametrize(
    ("count", "share", "value"),
    [(100, 0.99, 99), (1000, 0.99, 990), (101, 0.99, 100), (1, 0.99, 1), (4, 0.5, 2), (3, 1.0, 3), (5, 0.0, 1)],
)
def test_percentiles_are_values_that_occurred(count: int, share: float, value: int) -> None:
    assert percentile(range(count, 0, -1), share) == value


def test_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.99)


def test_cpu_time_is_for_each_request() -> None:
    assert Round(load=Load(requests=20_000, per_second=1.0), cpu_seconds=0.8).cpu_microseconds == pytest.approx(40.0)


FIGURE = Figure(
    title="Speed",
    columns=("proxy", "CPU us"),
    rows=[("nginx", "28.1"), ("aggregator", "133.0")],
    target="at most 1.4 x",
    met=False,
    notes=("A note.",),
)


def test_a_figure_for_the_terminal() -> None:
    assert as_text(FIGURE).splitlines() == [
        "-- Speed",
        "   proxy       CPU us",
        "   nginx         28.1",
        "   aggregator   133.0",
        "   A note.",
        "   target: at most 1.4 x: MISSED",
    ]


def test_the_file_of_results() -> None:
    text = as_markdown([FIGURE, skipped("Other", "fast", "No Go.")], {"kernel": "Linux 6.1"})
    assert "- kernel: Linux 6.1\n" in text
    assert "| Speed | at most 1.4 x | MISSED |\n| Other | fast | not measured |\n" in text
    assert "| proxy | CPU us |\n|---|--:|\n| nginx | 28.1 |\n| aggregator | 133.0 |\n" in text
    assert "No Go.\nTarget: fast: **not measured**.\n" in text
