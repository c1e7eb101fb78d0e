"""Server-side apply as algebra: who set which field, and what a configuration makes of an object (rest.md A4.3).

Is: sets of field paths, merging by schema, ownership, conflicts as data. Is not: HTTP, stores, validation beyond what
merging needs, clocks (the time of an entry is an argument). May import: field_errors, schema, status, validation.

Reading order: `paths` and `fieldsv1` (sets and how they are written), `typed` (how a schema divides a value),
`field_sets`, `compare`, `merge`, `remove`, `reconcile`, `validate` (values and sets together), `managers`,
`ownership` and `update` (what the requests do with them), `conflicts` and `last_applied` (details of `update`).
"""
