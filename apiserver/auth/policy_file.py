"""The policy file: roles and bindings in YAML, with the rules of Kubernetes RBAC.

```yaml
roles:
- name: viewer
  rules:
  - apiGroups: [example.grafana.app]
    resources: [dummy, dummy/sub]
    verbs: [get, list, watch]
  - nonResourceURLs: [/metrics]
    verbs: [get]
bindings:
- role: viewer
  namespaces: [default]   # absent: everywhere
  users: [alice]
  groups: [developers]
```
"""

from pathlib import Path
from typing import Final

from apimachinery import names
from apimachinery.rbac import ALL, BOOTSTRAP, Binding, Role, Rule, RuleBook
from apiserver.auth.yaml_fields import Field, FileError, compose, each

_RULE_FIELDS: Final = ("apiGroups", "resources", "resourceNames", "verbs", "nonResourceURLs")
_BINDING_FIELDS: Final = ("role", "namespaces", "users", "groups")


def load(path: Path) -> RuleBook:
    """Read a policy from a file. FileError, with every fault that can be told at once."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The text of a file that people write; FileError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: not a text file in UTF-8") from None


def parse(text: str, file: str) -> RuleBook:
    """The policy in a text; an empty one allows nothing. `file` only serves the error text."""
    root = compose(text, file)
    if not root.given:
        return RuleBook()
    fields = root.fields(("roles", "bindings"))
    roles = each(fields["roles"].items(), _role)
    known: dict[str, Role] = {}
    for field, role in zip(fields["roles"].items(), roles, strict=True):
        if role.name in known:
            raise field.fault(f"name: there is a role {role.name} already")
        known[role.name] = role
    bindings = each(fields["bindings"].items(), lambda field: _binding(field, known))
    return RuleBook((*BOOTSTRAP.roles.values(), *roles), bindings)


def _role(field: Field) -> Role:
    fields = field.fields(("name", "rules"), needed=("name", "rules"))
    return Role(name=fields["name"].text(), rules=tuple(each(fields["rules"].items(), _rule)))


def _rule(field: Field) -> Rule:
    fields = field.fields(_RULE_FIELDS, needed=("verbs",))
    rule = Rule(
        verbs=fields["verbs"].texts(),
        api_groups=fields["apiGroups"].core_group_texts(),
        resources=fields["resources"].texts(),
        resource_names=fields["resourceNames"].texts(),
        non_resource_urls=fields["nonResourceURLs"].texts(),
    )
    if not rule.verbs:
        raise fields["verbs"].fault("at least one verb is needed")
    if rule.non_resource_urls:
        if rule.api_groups or rule.resources or rule.resource_names:
            raise field.fault("a rule is about resources or about nonResourceURLs, not about both")
        for url in fields["nonResourceURLs"].items():
            _check_url(url)
        return rule
    if not rule.resources or not rule.api_groups:
        raise field.fault('a rule needs apiGroups ("" is the core group) and resources, or nonResourceURLs')
    for group in fields["apiGroups"].items():
        _check_group(group)
    return rule


def _check_group(field: Field) -> None:
    name = getattr(field.node, "value", "")
    faults = names.validate_dns1123_subdomain(name) if name not in ("", ALL) else []
    if faults:
        raise field.fault(faults[0])


def _check_url(field: Field) -> None:
    url = field.text()
    if url != ALL and not url.startswith("/"):
        raise field.fault("must begin with a slash, or be *")
    if ALL in url[:-1]:
        raise field.fault("* may only stand at the end")


def _binding(field: Field, roles: dict[str, Role]) -> Binding:
    fields = field.fields(_BINDING_FIELDS, needed=("role",))
    role = fields["role"].text()
    if role not in roles and role not in BOOTSTRAP.roles:
        raise fields["role"].fault(f"there is no role {role}")
    for namespace in fields["namespaces"].items():
        faults = names.validate_dns1123_label(namespace.text())
        if faults:
            raise namespace.fault(faults[0])
    if fields["namespaces"].given and not fields["namespaces"].texts():
        raise fields["namespaces"].fault("an empty list counts nowhere; leave it out for everywhere")
    binding = Binding(
        role=role,
        users=fields["users"].texts(),
        groups=fields["groups"].texts(),
        namespaces=fields["namespaces"].texts(),
    )
    if not binding.users and not binding.groups:
        raise field.fault("users or groups are needed")
    return binding
