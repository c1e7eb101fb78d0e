"""Policy and token files: what they mean, what is wrong with them, and how they are taken over."""

import os
from pathlib import Path

import pytest

from apimachinery.identity import User
from apimachinery.rbac import Binding, Rule
from apiserver.auth import policy_file, static_tokens
from apiserver.auth.watched import WatchedFile
from apiserver.auth.yaml_fields import FileError

POLICY = """\
roles:
- name: viewer
  rules:
  - apiGroups: ["", g]
    resources: [things, things/sub]
    resourceNames: [a]
    verbs: [get]
  - nonResourceURLs: [/metrics, "/debug/*", "*"]
    verbs: ["*"]
bindings:
- role: viewer
  namespaces: [default]
  users: [ann]
  groups: [staff]
- {role: system:auth-delegator, users: [server]}
"""


def test_a_policy() -> None:
    book = policy_file.parse(POLICY, "p.yaml")
    assert book.roles["viewer"].rules == (
        Rule(verbs=("get",), api_groups=("", "g"), resources=("things", "things/sub"), resource_names=("a",)),
        Rule(verbs=("*",), non_resource_urls=("/metrics", "/debug/*", "*")),
    )
    assert book.bindings == (
        Binding(role="viewer", users=("ann",), groups=("staff",), namespaces=("default",)),
        Binding(role="system:auth-delegator", users=("server",)),
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "roles: []\nbindings: []\n", "{}", "roles:\n"])
def test_an_empty_policy_binds_nobody(text: str) -> None:
    assert policy_file.parse(text, "p.yaml").bindings == ()


_RULE = "roles:\n- name: r\n  rules:\n  - "
_BINDING = "roles:\n- name: r\n  rules: []\nbindings:\n- "


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[", "p.yaml:1: not valid YAML: expected the node content, but found '<stream end>'"),
        ("a: \0", "p.yaml: not valid YAML: unacceptable character #x0000: special characters are not allowed"),
        ("x", "p.yaml:1: must have the fields roles, bindings"),
        ("role: []", "p.yaml:1: role: unknown field; did you mean roles?"),
        ("roles: []\nroles: []", "p.yaml:2: roles: given twice"),
        ("roles: x", "p.yaml:1: roles: must be a list"),
        ("roles:\n- name: a", "p.yaml:2: roles[0]: rules: is missing"),
        ("roles:\n- {name: 1, rules: []}", "p.yaml:2: roles[0].name: must be a string"),
        ("roles:\n- {name: '', rules: []}", "p.yaml:2: roles[0].name: must not be empty"),
        (
            "roles:\n- {name: a, rules: []}\n- {name: a, rules: []}",
            "p.yaml:3: roles[1]: name: there is a role a already",
        ),
        (_RULE + "{}", "p.yaml:4: roles[0].rules[0]: verbs: is missing"),
        (_RULE + "{verbs: []}", "p.yaml:4: roles[0].rules[0].verbs: at least one verb is needed"),
        (
            _RULE + "{verbs: [get], resource: [x]}",
            "p.yaml:4: roles[0].rules[0]: resource: unknown field; did you mean resources?",
        ),
        (
            _RULE + "{verbs: [get], nonresourceurls: [x]}",
            "p.yaml:4: roles[0].rules[0]: nonresourceurls: unknown field; did you mean nonResourceURLs?",
        ),
        (
            _RULE + "{verbs: [get], resources: [x]}",
            'p.yaml:4: roles[0].rules[0]: a rule needs apiGroups ("" is the core group) and resources, '
            "or nonResourceURLs",
        ),
        (
            _RULE + "{verbs: [get], apiGroups: [g], resources: [x], nonResourceURLs: [/x]}",
            "p.yaml:4: roles[0].rules[0]: a rule is about resources or about nonResourceURLs, not about both",
        ),
        (
            _RULE + "{verbs: [get], nonResourceURLs: [x]}",
            "p.yaml:4: roles[0].rules[0].nonResourceURLs[0]: must begin with a slash, or be *",
        ),
        (
            _RULE + "{verbs: [get], nonResourceURLs: ['/*/x']}",
            "p.yaml:4: roles[0].rules[0].nonResourceURLs[0]: * may only stand at the end",
        ),
        (_BINDING + "{users: [a]}", "p.yaml:5: bindings[0]: role: is missing"),
        (_BINDING + "{role: x, users: [a]}", "p.yaml:5: bindings[0].role: there is no role x"),
        (_BINDING + "{role: r}", "p.yaml:5: bindings[0]: users or groups are needed"),
        (
            _BINDING + "{role: r, users: [a], namespaces: []}",
            "p.yaml:5: bindings[0].namespaces: an empty list counts nowhere; leave it out for everywhere",
        ),
        (_BINDING + "{role: r, users: a}", "p.yaml:5: bindings[0].users: must be a list"),
    ],
)
def test_faults_name_the_place(text: str, fault: str) -> None:
    with pytest.raises(FileError) as caught:
        policy_file.parse(text, "p.yaml")
    assert str(caught.value) == fault


def test_faults_of_values() -> None:
    for text in (
        _BINDING + "{role: r, users: [a], namespaces: [A_b]}",
        _RULE + "{verbs: [get], apiGroups: [A_b], resources: [x]}",
    ):
        with pytest.raises(FileError, match=r"^p.yaml:[45]: .*\[0\]: a lowercase RFC 1123 "):
            policy_file.parse(text, "p.yaml")


def test_all_faults_at_once() -> None:
    with pytest.raises(FileError) as caught:
        policy_file.parse(
            "roles:\n- {name: a}\n- {rules: []}\n- {name: b, rules: [{verbs: 1}, {verbs: []}]}\n", "p.yaml"
        )
    assert [line.split(": ")[0] for line in str(caught.value).split("\n")] == [
        "p.yaml:2",
        "p.yaml:3",
        "p.yaml:4",
        "p.yaml:4",
    ]


def test_the_example_is_right() -> None:
    book = policy_file.load(Path(__file__).parents[3] / "conf" / "policy.yaml")
    assert len(book.bindings) == 3


def test_tokens() -> None:
    text = '# people\n\nt1,ann,u1,"staff, other"\nt2,bob,u2\n"t,3",eve,,\nt4,zoe,u4,one\n'
    tokens = static_tokens.parse(text, "t.csv")
    assert tokens.user("t1") == User("ann", "u1", ("staff", "other"))
    assert tokens.user("t2") == User("bob", "u2")
    assert tokens.user("t,3") == User("eve")
    assert tokens.user("t4") == User("zoe", "u4", ("one",))
    assert [tokens.user(text) for text in ("", "t", "t1 ", "T1", "# people")] == [None] * 5


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("secret,ann", 't.csv:1: at least token, user and uid are needed: token,user,uid,"group1,group2"'),
        ("\nsecret,ann,1,a,b", "t.csv:2: more than four fields; several groups go into quotes"),
        (",ann,1", "t.csv:1: the token is empty"),
        ("secret,,1", "t.csv:1: the user is empty"),
        ("secret,a,1\nsecret,b,2", "t.csv:2: the token is in the file already"),
        ('secret,"a,1', "t.csv:1: not valid CSV: unexpected end of data"),
    ],
)
def test_faults_of_token_files_quote_nothing(text: str, fault: str) -> None:
    with pytest.raises(FileError) as caught:
        static_tokens.parse(text, "t.csv")
    assert str(caught.value) == fault


def test_a_file_is_taken_over_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("t1,ann,1")
    heard: list[static_tokens.StaticTokens] = []
    file = WatchedFile(path, static_tokens.load, heard.append)
    assert not file.reload()
    assert file.value.user("t1") == User("ann", "1")

    other = tmp_path / "other.csv"
    other.write_text("t2,bob,2")
    os.replace(other, path)
    assert file.reload()
    assert not file.reload()
    assert heard == [file.value]
    assert (file.value.user("t1"), file.value.user("t2")) == (None, User("bob", "2"))

    path.write_text("broken")
    for _ in range(2):
        with pytest.raises(FileError, match=r"t\.csv:1: at least token"):
            file.reload()
    path.unlink()
    with pytest.raises(FileError, match="No such file"):
        file.reload()
    assert file.value.user("t2") == User("bob", "2")
    assert heard == [file.value]

    path.write_text("t3,eve,3")
    assert file.reload()
    assert file.value.user("t3") == User("eve", "3")


@pytest.mark.parametrize(
    ("content", "fault"), [(None, "No such file or directory"), (b"\xff", "not a text file in UTF-8")]
)
def test_a_file_that_cannot_be_read_at_first(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / "p.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        WatchedFile(path, policy_file.load)
    assert str(caught.value) == f"{path}: {fault}"
