"""OpenAPI documents: built from resources, converted, encoded, merged (aggregator.md 5).

Is: v3 documents of group versions, the v2 document in JSON and protobuf, and the merging of what several servers say.
Is not: fetching, caching or serving them. May import: gvk, schema, types.
"""
