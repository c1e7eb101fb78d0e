"""What `python -m bench NAME...` runs."""

import pytest

from bench.__main__ import commands, main


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        pytest.param(["outage"], [("outage",)], id="a benchmark"),
        pytest.param(
            ["proxy.http1", "workers"], [("proxy", "--only", "http1"), ("workers",)], id="a figure and another"
        ),
        pytest.param(["machinery.list"], [("machinery", "--only", "list")], id="a part"),
    ],
)
def test_names(names: list[str], wanted: list[tuple[str, ...]]) -> None:
    assert commands(names) == wanted


def test_everything_is_run_when_nothing_is_named_and_the_results_are_kept() -> None:
    whole = commands([])
    assert [command[0] for command in whole] == ["proxy", "workers", "machinery", "discovery", "outage"]
    assert whole[0][1] == "--results"
    assert whole[0] == commands(["proxy"])[0]


def test_an_unknown_name_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["outage", "proxy.http3"])
    assert ended.value.code == 2
    assert "no such benchmark: proxy.http3; there are proxy, workers" in capsys.readouterr().err


def test_help_lists_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "discovery  What discovery and OpenAPI of many servers cost" in text
    assert "proxy.bulkhead" in text
