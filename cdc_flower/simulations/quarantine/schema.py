"""The schema of replies: what is in them, and what most devices of an exchange have in common.

What was sent is known, so parameters that come back must have its names and shapes. All else
(reports, examples, scores) is as most devices have it, and as it was in exchanges before: a device
alone cannot bring in another schema.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import cast

import numpy as np

from cdc_flower.core.saveable import Arrays, Saved, json_array, json_of
from cdc_flower.simulations.quarantine import reasons
from cdc_flower.wire.batch import MessageBatch

#: Kind of record, its name, a key, the type of its values, and the shape of one message's.
Field = tuple[str, str, str, str, tuple[int, ...]]
Schema = frozenset[Field]
_Saved = tuple[str, str, str, str, list[int]]

ARRAY, METRIC, CONFIG = "array", "metric", "config"
#: Stands for the length of a run of bytes, which may be any.
ANY_LENGTH = -1


def schema_of(batch: MessageBatch, names: Collection[str]) -> Schema:
    """Lists what is in these records of a batch."""
    found: list[Field] = []
    for name in names:
        for key, value in batch.arrays.get(name, {}).items():
            found.append((ARRAY, name, key, *_type(value.dtype, value.shape[1:])))
        for key, value in batch.shared.get(name, {}).items():
            found.append((ARRAY, name, key, *_type(value.dtype, value.shape)))
        for key, value in batch.metrics.get(name, {}).items():
            found.append((METRIC, name, key, _number(value.dtype), value.shape[1:]))
        for key, value in batch.configs.get(name, {}).items():
            is_column = isinstance(value, np.ndarray)
            kind = _number(value.dtype) if is_column else _kind(value)
            found.append((CONFIG, name, key, kind, ()))
        kinds = ((ARRAY, {*batch.arrays, *batch.shared}), (METRIC, batch.metrics))
        for kind, held in (*kinds, (CONFIG, batch.configs)):
            if name in held:
                found.append((kind, name, "", "", ()))
    return frozenset(found)


def _type(dtype: np.dtype, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    is_run = dtype == np.uint8 and len(shape) == 1
    return dtype.str, (ANY_LENGTH,) if is_run else tuple(shape)


def _number(dtype: np.dtype) -> str:
    return "int" if dtype.kind in "iu" else dtype.kind


def _kind(value: object) -> str:
    kinds = {bool: "b", int: "int", float: "f"}
    return kinds.get(type(value), type(value).__name__)


def loosely(schema: Schema) -> frozenset[tuple[str, str, str, str, int]]:
    """Leaves out the lengths of dimensions, which may differ from one exchange to the next."""
    return frozenset((*field[:4], len(field[4])) for field in schema)


def difference(schema: Schema, agreed: Schema) -> str:
    """Names what sets a schema apart, the coarsest first; "" where nothing does."""
    if schema == agreed:
        return ""
    for length, reason in ((2, reasons.RECORD), (3, reasons.KEY), (4, reasons.DTYPE)):
        if {field[:length] for field in schema} != {field[:length] for field in agreed}:
            return reason
    return reasons.SHAPE


class Agreements:
    """Remembers by message type what most devices had in common."""

    def __init__(self) -> None:
        self._known: dict[str, Schema] = {}

    def of(self, message_type: str, votes: Iterable[tuple[Schema, int]]) -> Schema:
        """Finds the schema that counts in an exchange.

        Args:
            message_type: Of the replies.
            votes: Schemas, each with the number of replies that have it; without any it is what
                was agreed before, and nothing at first.
        """
        counted: Counter[Schema] = Counter()
        for schema, num_replies in votes:
            counted[schema] += num_replies
        known = self._known.get(message_type)
        if known is not None and counted.keys() <= {known}:
            return known
        if not counted:
            return frozenset()
        self._known[message_type] = agreed = _chosen(counted, known)
        return agreed

    def to_arrays(self) -> Arrays:
        """Takes what is remembered."""
        plain = {name: sorted(map(list, schema)) for name, schema in self._known.items()}
        return {"known": json_array(plain)}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with what was remembered."""
        found = cast(
            dict[str, list[tuple[str, str, str, str, list[int]]]], json_of(arrays, "known")
        )
        self._known = {name: _schema(fields) for name, fields in found.items()}


def _schema(saved: list[_Saved]) -> Schema:
    return frozenset((*field[:4], tuple(field[4])) for field in saved)


def _chosen(counted: Counter[Schema], known: Schema | None) -> Schema:
    """Chooses the schema of most replies among those that are as before but for lengths."""
    if known is None:
        return counted.most_common(1)[0][0]
    before = loosely(known)
    alike = Counter({each: count for each, count in counted.items() if loosely(each) == before})
    if not alike:
        # Several devices that all tell another thing are an app that does so; one alone is not.
        first, count = counted.most_common(1)[0]
        return first if count > 1 and 2 * count > counted.total() else known
    first, count = alike.most_common(1)[0]
    return known if alike[known] == count else first
