"""Pure Kubernetes API machinery: values in, values out.

Is: identifiers, metadata rules, Status errors, schemas, selectors, patches, tables, negotiation, discovery and OpenAPI
documents. Is not: anything that does I/O, reads a clock, draws randomness or logs; those come in as arguments.
May import: the standard library's pure parts, orjson, pyyaml, jsonpatch.
"""
