"""Names why a reply is left out: what ``quarantine.csv`` and the report call it."""

UNKNOWN_NODE = "unknown node"  # the node is none of the run, or was not asked
TWICE = "answered twice"
OTHER_NAME = "in another's name"
STALE = "stale"  # it answers an earlier message
UNREADABLE = "unreadable"  # its data are no array, or lie about their shape
KIND = "message type"
RECORD = "record"  # one too many, or one is missing
KEY = "key"
DTYPE = "dtype"
SHAPE = "shape"
NOT_FINITE = "not finite"
IDS = "item ids"
COUNTS = "counts"
NORM = "norm"
SCORES = "scores"  # sums or points that no device can have
WORK = "work"  # operations or labels that are negative, not finite or beyond any device

#: In the order in which tables list them.
REASONS = (
    *(UNKNOWN_NODE, TWICE, OTHER_NAME, STALE, UNREADABLE, KIND, RECORD, KEY, DTYPE, SHAPE),
    *(NOT_FINITE, IDS, COUNTS, NORM, SCORES, WORK),
)
