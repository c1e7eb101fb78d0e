import pytest

from apiserver.health import HealthChecks


def checks(**faults: str | None) -> HealthChecks:
    health = HealthChecks()
    for name, fault in faults.items():
        health.add(name, lambda fault=fault: fault, group="store" if name == "etcd" else "")  # type: ignore[misc]
    health.add("ready", lambda: None, endpoints=("readyz",))
    health.add("detail", lambda: "on fire", informational=True)
    return health


HEALTHY = checks(ping=None, etcd=None)
BROKEN = checks(ping=None, etcd="no quorum")
PASSED = "[+]ping ok\n[+]etcd ok\nlivez check passed\n"
FAILED = "[+]ping ok\n[-]etcd failed: reason withheld\nlivez check failed\n"
WARNING = "warn: some health checks cannot be excluded: no matches for"


@pytest.mark.parametrize(
    ("health", "path", "query", "expected"),
    [
        pytest.param(HEALTHY, "", {}, (200, "ok"), id="healthy"),
        pytest.param(HEALTHY, "", {"verbose": [""]}, (200, PASSED), id="verbose"),
        pytest.param(HEALTHY, "", {"verbose": ["false"]}, (200, PASSED), id="verbose with any value"),
        pytest.param(BROKEN, "", {}, (500, FAILED), id="broken is always verbose"),
        pytest.param(BROKEN, "", {"exclude": ["etcd"]}, (200, "ok"), id="broken one excluded"),
        pytest.param(BROKEN, "", {"exclude": ["store"]}, (200, "ok"), id="broken one excluded by group"),
        pytest.param(
            BROKEN, "", {"exclude": ["ping"]}, (500, FAILED.replace("ping ok", "ping excluded: ok")), id="other"
        ),
        pytest.param(
            HEALTHY,
            "",
            {"exclude": ["store"], "verbose": [""]},
            (200, "[+]ping ok\n[+]etcd excluded with store: ok\nlivez check passed\n"),
            id="group is named",
        ),
        pytest.param(
            HEALTHY,
            "",
            {"exclude": ["zzz", "etcd", "aaa"], "verbose": [""]},
            (200, f'[+]ping ok\n[+]etcd excluded: ok\n{WARNING} "aaa","zzz"\nlivez check passed\n'),
            id="unknown exclusions warn",
        ),
        pytest.param(HEALTHY, "ping", {}, (200, "ok"), id="one check"),
        pytest.param(BROKEN, "etcd", {}, (500, "internal server error: no quorum\n"), id="one broken check"),
        pytest.param(BROKEN, "detail", {}, (500, "internal server error: on fire\n"), id="informational"),
        pytest.param(HEALTHY, "nothing", {}, (404, "404 page not found\n"), id="unknown check"),
        pytest.param(HEALTHY, "ready", {}, (404, "404 page not found\n"), id="check of another endpoint"),
    ],
)
def test_respond(health: HealthChecks, path: str, query: dict[str, list[str]], expected: tuple[int, str]) -> None:
    assert health.respond("livez", path, query) == expected


def test_endpoint_is_named_and_has_its_own_checks() -> None:
    assert HEALTHY.respond("readyz", "", {"verbose": [""]})[1].endswith("[+]ready ok\nreadyz check passed\n")


def test_check_that_breaks_is_a_failed_check() -> None:
    health = HealthChecks()
    health.add("broken", lambda: str(1 // 0))
    assert health.respond("healthz", "broken", {})[0] == 500


def test_names_are_unique() -> None:
    health = checks(ping=None)
    with pytest.raises(ValueError, match="ping"):
        health.add("ping", lambda: None)
