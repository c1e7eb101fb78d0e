"""Audit policies: which rule counts, what files are refused, and what is never recorded."""

import pytest

from aggregator.observe import audit_policy_file
from aggregator.observe.audit_policy import Level, Stage
from apimachinery.identity import User
from apimachinery.options import parse_query
from apimachinery.request_info import RequestInfo, parse_request_info
from apiserver.auth.yaml_fields import FileError

HEAD = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"
BOB = User("bob", groups=("devs", "system:authenticated"))


def info(method: str, target: str) -> RequestInfo:
    path, _, query = target.partition("?")
    return parse_request_info(method, path, parse_query(query.encode()))


def level(rule: str, method: str, target: str, user: User | None = BOB) -> Level:
    """What a policy of one rule at level Metadata says."""
    policy = audit_policy_file.parse(f"{HEAD}rules:\n- {{level: Metadata, {rule}}}\n", "p")
    return policy.wanted(user, info(method, target)).level


THING = "/apis/g/v1/namespaces/a/things/one"


@pytest.mark.parametrize(
    ("rule", "method", "target", "matches"),
    [
        pytest.param("", "GET", THING, True, id="empty"),
        pytest.param("", "GET", "/healthz", True, id="empty-url"),
        pytest.param("users: [bob]", "GET", THING, True, id="user"),
        pytest.param("users: [eve]", "GET", THING, False, id="other-user"),
        pytest.param("userGroups: [x, devs]", "GET", THING, True, id="group"),
        pytest.param("userGroups: [x]", "GET", THING, False, id="other-group"),
        pytest.param("verbs: [get]", "GET", THING, True, id="verb"),
        pytest.param("verbs: [list]", "GET", THING, False, id="other-verb"),
        pytest.param("verbs: [watch]", "GET", "/apis/g/v1/things?watch=1", True, id="watch"),
        pytest.param("namespaces: [a]", "GET", THING, True, id="namespace"),
        pytest.param("namespaces: [b]", "GET", THING, False, id="other-namespace"),
        pytest.param('namespaces: [""]', "GET", "/apis/g/v1/things", True, id="no-namespace"),
        pytest.param("namespaces: [a]", "GET", "/healthz", False, id="namespace-url"),
        pytest.param("resources: [{group: g}]", "GET", THING, True, id="group-all"),
        pytest.param("resources: [{group: h}]", "GET", THING, False, id="another-api-group"),
        pytest.param("resources: [{resources: [things]}]", "GET", THING, False, id="core-group"),
        pytest.param("resources: [{resources: [things]}]", "GET", "/api/v1/things", True, id="core-group-match"),
        pytest.param("resources: [{group: g, resources: [things]}]", "GET", THING, True, id="resource"),
        pytest.param("resources: [{group: g, resources: [things]}]", "GET", f"{THING}/status", False, id="not-sub"),
        pytest.param("resources: [{group: g, resources: ['*']}]", "GET", f"{THING}/status", True, id="star"),
        pytest.param("resources: [{group: g, resources: [things/status]}]", "GET", f"{THING}/status", True, id="sub"),
        pytest.param("resources: [{group: g, resources: [things/status]}]", "GET", THING, False, id="sub-only"),
        pytest.param("resources: [{group: g, resources: ['*/status']}]", "GET", f"{THING}/status", True, id="any-sub"),
        pytest.param("resources: [{group: g, resources: ['*/status']}]", "GET", THING, False, id="any-sub-only"),
        pytest.param("resources: [{group: g, resources: [things/*]}]", "GET", f"{THING}/x", True, id="all-subs"),
        pytest.param("resources: [{group: g, resources: [things/*]}]", "GET", THING, True, id="all-subs-and-itself"),
        pytest.param(
            "resources: [{group: g, resources: [things], resourceNames: [one]}]", "GET", THING, True, id="name"
        ),
        pytest.param(
            "resources: [{group: g, resources: [things], resourceNames: [two]}]", "GET", THING, False, id="other-name"
        ),
        pytest.param("resources: [{group: g}]", "GET", "/apis/g", False, id="resources-url"),
        pytest.param("nonResourceURLs: [/healthz]", "GET", "/healthz", True, id="url"),
        pytest.param("nonResourceURLs: [/healthz]", "GET", "/healthz/ping", False, id="url-exact"),
        pytest.param("nonResourceURLs: ['/healthz*']", "GET", "/healthz/ping", True, id="url-prefix"),
        pytest.param("nonResourceURLs: ['*']", "GET", "/anything", True, id="url-star"),
        pytest.param("nonResourceURLs: ['*']", "GET", THING, False, id="url-star-resource"),
    ],
)
def test_a_rule_matches(rule: str, method: str, target: str, matches: bool) -> None:
    assert level(rule, method, target) is (Level.METADATA if matches else Level.NONE)


@pytest.mark.parametrize("rule", ["users: [bob]", "userGroups: [devs]"])
def test_rules_about_users_do_not_match_nobody(rule: str) -> None:
    assert level(rule, "GET", THING, user=None) is Level.NONE
    assert level("verbs: [get]", "GET", THING, user=None) is Level.METADATA


def test_first_match_counts_and_stages_add_up() -> None:
    policy = audit_policy_file.parse(
        f"""{HEAD}omitStages: [RequestReceived, Panic]
omitManagedFields: true
rules:
- {{level: None, verbs: [get]}}
- {{level: Request, verbs: [create], omitStages: [ResponseStarted]}}
- {{level: RequestResponse, omitManagedFields: false}}
""",
        "p",
    )
    assert policy.wanted(BOB, info("GET", THING)).level is Level.NONE
    created = policy.wanted(BOB, info("POST", "/apis/g/v1/things"))
    assert created.level is Level.REQUEST
    assert created.omit_managed_fields
    assert [created.at(stage) for stage in Stage] == [False, False, True]
    rest = policy.wanted(BOB, info("DELETE", THING))
    assert rest.level is Level.REQUEST_RESPONSE
    assert not rest.omit_managed_fields
    assert [rest.at(stage) for stage in Stage] == [False, True, True]


@pytest.mark.parametrize(
    "target",
    [
        "/apis/authentication.k8s.io/v1/tokenreviews",
        "/api/v1/namespaces/a/serviceaccounts/robot/token",
    ],
)
def test_bodies_that_carry_tokens_are_never_wanted(target: str) -> None:
    policy = audit_policy_file.parse(f"{HEAD}rules: [{{level: RequestResponse}}]", "p")
    assert policy.wanted(BOB, info("POST", target)).level is Level.METADATA
    assert policy.wanted(BOB, info("POST", "/api/v1/namespaces/a/serviceaccounts")).level is Level.REQUEST_RESPONSE


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("", "p: must have the fields", id="empty"),
        pytest.param("kind: Policy\nrules: []", "p:1: apiVersion: is missing", id="no-version"),
        pytest.param("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: []", "p:1: apiVersion: must be", id="old"),
        pytest.param("apiVersion: audit.k8s.io/v1\nkind: Event\nrules: []", "p:2: kind: must be Policy", id="kind"),
        pytest.param(f"{HEAD}rules: []", "p:3: rules: at least one rule", id="no-rules"),
        pytest.param(f"{HEAD}rules: [{{}}]", "p:3: rules[0]: level: is missing", id="no-level"),
        pytest.param(f"{HEAD}rules: [{{level: All}}]", "p:3: rules[0].level: 'All' is not one of None", id="level"),
        pytest.param(f"{HEAD}rules:\n- level: None\n  verb: [get]", "p:5: rules[0]: verb: unknown", id="typo"),
        pytest.param(
            f"{HEAD}rules: [{{level: None, namespaces: [a], nonResourceURLs: [/x]}}]", "not about both", id="both"
        ),
        pytest.param(f"{HEAD}rules: [{{level: None, nonResourceURLs: [x]}}]", "must begin with a slash", id="url"),
        pytest.param(f"{HEAD}rules: [{{level: None, nonResourceURLs: ['/*/x']}}]", "only stand at the end", id="star"),
        pytest.param(f"{HEAD}rules: [{{level: None, omitStages: [Never]}}]", "omitStages[0]: 'Never'", id="stage"),
        pytest.param(
            f"{HEAD}rules: [{{level: None, resources: [{{resourceNames: [a]}}]}}]", "needs resources", id="names"
        ),
        pytest.param(f"{HEAD}rules: [{{level: None, resources: [{{group: A_b}}]}}]", "resources[0].group:", id="group"),
        pytest.param(f"{HEAD}rules: [", "not valid YAML", id="yaml"),
    ],
)
def test_faults_are_told_with_line_and_field(text: str, fault: str) -> None:
    with pytest.raises(FileError) as caught:
        audit_policy_file.parse(text, "p")
    assert fault in str(caught.value)


def test_the_example_is_valid() -> None:
    from pathlib import Path

    example = Path(__file__).parents[3] / "conf" / "audit-policy.yaml"
    policy = audit_policy_file.load(example)
    assert policy.wanted(BOB, info("GET", "/healthz")).level is Level.NONE
    made = policy.wanted(BOB, info("POST", "/apis/apiregistration.k8s.io/v1/apiservices"))
    assert made.level is Level.REQUEST_RESPONSE
