"""The root document of OpenAPI v3, which says where the documents of the group versions are."""

from collections.abc import Mapping

from apimachinery.types import Object


def root(paths: Mapping[str, str]) -> Object:
    """`paths` maps keys such as `apis/<group>/<version>` to the hash of the document behind each.

    The hash in the URL lets clients keep a document for as long as it is the same (aggregator.md 5.2).
    """
    return {
        "paths": {
            key: {"serverRelativeURL": f"/openapi/v3/{key}?hash={document_hash}"}
            for key, document_hash in sorted(paths.items())
        }
    }
