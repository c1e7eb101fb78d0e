"""Roles and bindings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.authorization import Verdict
from apimachinery.identity import User
from apimachinery.rbac import BOOTSTRAP, Binding, Role, Rule, RuleBook
from apimachinery.request_info import RequestInfo


def _info(verb: str, group: str, resource: str, namespace: str = "", name: str = "") -> RequestInfo:
    main, _, sub = resource.partition("/")
    where = {"group": group, "resource": main, "subresource": sub, "namespace": namespace, "name": name}
    return RequestInfo(verb=verb, path="", is_resource=True, version="v1", **where)


def _book(*rules: Rule, **binding: tuple[str, ...]) -> RuleBook:
    return RuleBook([Role(name="r", rules=rules)], [Binding(role="r", **(binding or {"users": ("ann",)}))])


ANN = User("ann", groups=("staff", "system:authenticated"))
THINGS = Rule(verbs=("get", "list"), api_groups=("g",), resources=("things",))


@pytest.mark.parametrize(
    ("rule", "info", "allowed"),
    [
        (THINGS, _info("get", "g", "things"), True),
        (THINGS, _info("list", "g", "things", "ns"), True),
        (THINGS, _info("watch", "g", "things"), False),
        (THINGS, _info("get", "", "things"), False),
        (THINGS, _info("get", "g", "things/status"), False),
        (THINGS, _info("", "g", "things"), False),
        (Rule(verbs=("*",), api_groups=("*",), resources=("*",)), _info("x", "h", "y/z", "n", "m"), True),
        (Rule(verbs=("*",), api_groups=("*",), resources=("things",)), _info("get", "h", "things"), True),
        (Rule(verbs=("get",), api_groups=("g",), resources=("*",)), _info("get", "g", "x/status"), True),
        (Rule(verbs=("get",), api_groups=("g",), resources=("*/status",)), _info("get", "g", "x/status"), True),
        (Rule(verbs=("get",), api_groups=("g",), resources=("*/status",)), _info("get", "g", "x"), False),
        (Rule(verbs=("get",), api_groups=("*",), resources=("*/status",)), _info("get", "h", "x/status"), True),
        (Rule(verbs=("get",), api_groups=("g",), resources=("x/*",)), _info("get", "g", "x/status"), False),
        (
            Rule(verbs=("get",), api_groups=("g",), resources=("x",), resource_names=("a",)),
            _info("get", "g", "x"),
            False,
        ),
        (
            Rule(verbs=("get",), api_groups=("g",), resources=("x",), resource_names=("a",)),
            _info("get", "g", "x", "", "a"),
            True,
        ),
        (Rule(verbs=("get",), non_resource_urls=("*",)), _info("get", "g", "x"), False),
    ],
)
def test_rules_on_resources(rule: Rule, info: RequestInfo, allowed: bool) -> None:
    assert _book(rule).authorize(ANN, info).allowed is allowed
    assert not _book(rule).authorize(User("bob"), info).allowed


@pytest.mark.parametrize(
    ("urls", "verb", "path", "allowed"),
    [
        (("/a",), "get", "/a", True),
        (("/a",), "post", "/a", False),
        (("/a",), "get", "/a/", False),
        (("/a/*",), "get", "/a/b/c", True),
        (("/a/*",), "get", "/a/", True),
        (("/a/*",), "get", "/a", False),
        (("/a*",), "get", "/abc", True),
        (("*",), "get", "/x", True),
    ],
)
def test_rules_on_paths(urls: tuple[str, ...], verb: str, path: str, allowed: bool) -> None:
    book = _book(Rule(verbs=("get",), non_resource_urls=urls))
    assert book.authorize(ANN, RequestInfo(verb=verb, path=path)).allowed is allowed


@pytest.mark.parametrize(
    ("namespaces", "namespace", "allowed"),
    [
        ((), "a", True),
        ((), "", True),
        (("a",), "a", True),
        (("a", "b"), "b", True),
        (("a",), "b", False),
        (("a",), "", False),
    ],
)
def test_where_a_binding_counts(namespaces: tuple[str, ...], namespace: str, allowed: bool) -> None:
    book = _book(THINGS, users=("ann",), namespaces=namespaces)
    assert book.authorize(ANN, _info("get", "g", "things", namespace)).allowed is allowed


def test_a_binding_to_namespaces_gives_no_plain_paths() -> None:
    rule = Rule(verbs=("*",), non_resource_urls=("*",))
    assert not _book(rule, users=("ann",), namespaces=("a",)).authorize(ANN, RequestInfo(verb="get", path="/x")).allowed


def test_the_reason_names_role_and_subject() -> None:
    book = _book(THINGS, groups=("staff",))
    decision = book.authorize(ANN, _info("get", "g", "things"))
    assert (decision.verdict, decision.reason) == (Verdict.ALLOW, 'allowed by role "r" of group "staff"')
    assert decision.lasting
    other = book.authorize(ANN, _info("delete", "g", "things"))
    assert (other.verdict, other.reason) == (Verdict.NO_OPINION, "")


def test_rules_of_a_user_in_a_namespace() -> None:
    paths = Rule(verbs=("get",), non_resource_urls=("/a",))
    roles = [Role(name="t", rules=(THINGS,)), Role(name="p", rules=(paths,))]
    book = RuleBook(roles, [Binding(role="t", users=("ann",), namespaces=("a",)), Binding(role="p", groups=("staff",))])
    assert book.rules(ANN, "a") == [THINGS, paths]
    assert book.rules(ANN, "b") == [paths]
    assert book.rules(User("bob"), "a") == []


def test_a_binding_needs_its_role() -> None:
    with pytest.raises(ValueError, match='no role "x"'):
        RuleBook([], [Binding(role="x", users=("a",))])


def test_books_are_put_together() -> None:
    both = BOOTSTRAP.extended(_book(THINGS))
    assert both.authorize(ANN, _info("get", "g", "things")).allowed
    assert both.authorize(ANN, RequestInfo(verb="get", path="/apis/g/v1")).allowed
    assert not both.authorize(User("ann"), RequestInfo(verb="get", path="/apis/g/v1")).allowed


def test_more_users_than_are_remembered() -> None:
    book = _book(THINGS, groups=("staff",))
    for number in range(3000):
        assert book.authorize(User(str(number), groups=("staff",)), _info("get", "g", "things")).allowed
        assert not book.authorize(User(str(number)), _info("get", "g", "things")).allowed


_word = st.sampled_from(["a", "b", "*"])
_rules = st.builds(
    Rule,
    verbs=st.tuples(_word),
    api_groups=st.tuples(_word),
    resources=st.tuples(st.sampled_from(["a", "b", "*", "a/s", "*/s"])),
    resource_names=st.sampled_from([(), ("a",)]),
)
_infos = st.builds(
    _info,
    st.sampled_from("ab"),
    st.sampled_from("ab"),
    st.sampled_from(["a", "b", "a/s"]),
    st.just(""),
    st.sampled_from(["", "a"]),
)


def _plainly(rule: Rule, info: RequestInfo) -> bool:
    """The rule read without any index."""
    wanted = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    resources = {wanted, "*"} | ({f"*/{info.subresource}"} if info.subresource else set())
    return (
        bool({info.verb, "*"} & set(rule.verbs))
        and bool({info.group, "*"} & set(rule.api_groups))
        and bool(resources & set(rule.resources))
        and (not rule.resource_names or info.name in rule.resource_names)
    )


@given(st.lists(_rules, max_size=4), _infos)
def test_the_index_changes_nothing(rules: list[Rule], info: RequestInfo) -> None:
    assert _book(*rules).authorize(ANN, info).allowed == any(_plainly(rule, info) for rule in rules)
