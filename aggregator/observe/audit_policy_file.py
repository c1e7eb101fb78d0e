"""The audit policy as people write it: an audit.k8s.io/v1 Policy in YAML or JSON, checked as the originals check it."""

from pathlib import Path

from aggregator.observe.audit_policy import ALL, LEVELS, AuditPolicy, GroupResources, Rule, Stage, Wanted
from apimachinery import names
from apiserver.auth.policy_file import read_text
from apiserver.auth.yaml_fields import Field, compose, each

_ROOT = ("apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields")
_RULE = (
    "level",
    "users",
    "userGroups",
    "verbs",
    "resources",
    "namespaces",
    "nonResourceURLs",
    "omitStages",
    "omitManagedFields",
)
_STAGES = (*(str(stage) for stage in Stage), "Panic")
"""A policy may name the stage Panic, which has no counterpart here."""


def load(path: Path) -> AuditPolicy:
    """Read the policy file. FileError, with every fault that can be told at once."""
    return parse(read_text(path), str(path))


def parse(text: str, file: str) -> AuditPolicy:
    """The policy in a text. `file` only serves the error text. FileError."""
    root = compose(text, file)
    fields = root.fields(_ROOT, needed=("apiVersion", "kind", "rules"))
    for name, expected in (("apiVersion", "audit.k8s.io/v1"), ("kind", "Policy")):
        if fields[name].text() != expected:
            raise fields[name].fault(f"must be {expected}")
    stages = _stages(fields["omitStages"])
    managed = fields["omitManagedFields"].flag()
    rules = each(fields["rules"].items(), lambda field: _rule(field, stages, managed))
    if not rules:
        raise fields["rules"].fault("at least one rule is needed")
    return AuditPolicy(tuple(rules))


def _rule(field: Field, stages: frozenset[Stage], managed: bool) -> Rule:
    fields = field.fields(_RULE, needed=("level",))
    level = fields["level"].text()
    if level not in LEVELS:
        raise fields["level"].fault(f"{level!r} is not one of {', '.join(LEVELS)}")
    if fields["omitManagedFields"].given:
        managed = fields["omitManagedFields"].flag()
    rule = Rule(
        wanted=Wanted(LEVELS[level], stages | _stages(fields["omitStages"]), managed),
        users=fields["users"].texts(),
        groups=fields["userGroups"].texts(),
        verbs=fields["verbs"].texts(),
        resources=tuple(each(fields["resources"].items(), _resources)),
        namespaces=fields["namespaces"].core_group_texts(),
        urls=fields["nonResourceURLs"].texts(),
    )
    if rule.urls and (rule.resources or rule.namespaces):
        raise fields["nonResourceURLs"].fault("a rule is about resources or about nonResourceURLs, not about both")
    for url in fields["nonResourceURLs"].items():
        _check_url(url)
    return rule


def _check_url(field: Field) -> None:
    url = field.text()
    if url != ALL and not url.startswith("/"):
        raise field.fault("must begin with a slash, or be *")
    if ALL in url[:-1]:
        raise field.fault("* may only stand at the end")


def _resources(field: Field) -> GroupResources:
    fields = field.fields(("group", "resources", "resourceNames"))
    group = ""
    if fields["group"].given and getattr(fields["group"].node, "value", None) != "":
        group = fields["group"].text()
        faults = names.validate_dns1123_subdomain(group)
        if faults:
            raise fields["group"].fault(faults[0])
    found = GroupResources(group=group, resources=fields["resources"].texts(), names=fields["resourceNames"].texts())
    if found.names and not found.resources:
        raise fields["resourceNames"].fault("needs resources beside it")
    return found


def _stages(field: Field) -> frozenset[Stage]:
    found = set()
    for item in field.items():
        name = item.text()
        if name not in _STAGES:
            raise item.fault(f"{name!r} is not one of {', '.join(_STAGES)}")
        if name != "Panic":
            found.add(Stage(name))
    return frozenset(found)
