"""The OpenAPI v3 subset in which resources describe their shape, as in CustomResourceDefinitions (rest.md A3.3, B4).

All functions take the object-level schema of a resource; `apiVersion`, `kind` and `metadata` are implicit at the root.
Is: decoding errors, unknown fields, defaults, validation. Is not: metadata rules (`apimachinery.validation`) or CEL.
May import: field_errors, json_values, names.
"""

from apimachinery.schema.decode import type_error
from apimachinery.schema.fields import apply_defaults, prune
from apimachinery.schema.object_meta import OBJECT_META_SCHEMA, Schema, with_root_fields
from apimachinery.schema.rules import validate

__all__ = [
    "OBJECT_META_SCHEMA",
    "Schema",
    "apply_defaults",
    "prune",
    "type_error",
    "validate",
    "with_root_fields",
]
