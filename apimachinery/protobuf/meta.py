"""The messages of `meta.k8s.io/v1`, numbered as in apimachinery's `pkg/apis/meta/v1/generated.proto`."""

from typing import Final

from apimachinery.protobuf.message import Field, Kind, Label, Message, of

LIST_META: Final = Message(
    {
        1: Field("selfLink"),
        2: Field("resourceVersion"),
        3: Field("continue"),
        4: Field("remainingItemCount", Kind.INT64, optional=True),
    }
)

OWNER_REFERENCE: Final = Message(
    {
        1: Field("kind"),
        3: Field("name"),
        4: Field("uid"),
        5: Field("apiVersion"),
        6: Field("controller", Kind.BOOL, optional=True),
        7: Field("blockOwnerDeletion", Kind.BOOL, optional=True),
    }
)

MANAGED_FIELDS_ENTRY: Final = Message(
    {
        1: Field("manager"),
        2: Field("operation"),
        3: Field("apiVersion"),
        4: Field("time", Kind.TIME),
        6: Field("fieldsType"),
        7: Field("fieldsV1", Kind.RAW),
        8: Field("subresource"),
    }
)

OBJECT_META: Final = Message(
    {
        1: Field("name"),
        2: Field("generateName"),
        3: Field("namespace"),
        4: Field("selfLink"),
        5: Field("uid"),
        6: Field("resourceVersion"),
        7: Field("generation", Kind.INT64),
        8: Field("creationTimestamp", Kind.TIME),
        9: Field("deletionTimestamp", Kind.TIME),
        10: Field("deletionGracePeriodSeconds", Kind.INT64, optional=True),
        11: Field("labels", label=Label.MAP),
        12: Field("annotations", label=Label.MAP),
        13: of(OWNER_REFERENCE, "ownerReferences", Label.REPEATED),
        14: Field("finalizers", label=Label.REPEATED),
        17: of(MANAGED_FIELDS_ENTRY, "managedFields", Label.REPEATED),
    }
)

PRECONDITIONS: Final = Message({1: Field("uid", optional=True), 2: Field("resourceVersion", optional=True)})

DELETE_OPTIONS: Final = Message(
    {
        1: Field("gracePeriodSeconds", Kind.INT64, optional=True),
        2: of(PRECONDITIONS, "preconditions"),
        3: Field("orphanDependents", Kind.BOOL, optional=True),
        4: Field("propagationPolicy", optional=True),
        5: Field("dryRun", label=Label.REPEATED),
        6: Field("ignoreStoreReadErrorWithClusterBreakingPotential", Kind.BOOL, optional=True),
    }
)

STATUS_CAUSE: Final = Message({1: Field("reason"), 2: Field("message"), 3: Field("field")})

STATUS_DETAILS: Final = Message(
    {
        1: Field("name"),
        2: Field("group"),
        3: Field("kind"),
        4: of(STATUS_CAUSE, "causes", Label.REPEATED),
        5: Field("retryAfterSeconds", Kind.INT32),
        6: Field("uid"),
    }
)

STATUS: Final = Message(
    {
        1: of(LIST_META, "metadata"),
        2: Field("status"),
        3: Field("message"),
        4: Field("reason"),
        5: of(STATUS_DETAILS, "details"),
        6: Field("code", Kind.INT32),
    }
)

LABEL_SELECTOR_REQUIREMENT: Final = Message(
    {1: Field("key"), 2: Field("operator"), 3: Field("values", label=Label.REPEATED)}
)
"""Also the form of a FieldSelectorRequirement."""
