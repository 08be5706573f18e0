"""One hostile device among honest ones: kinds of replies, and the same run with its reply lost."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from flwr.app import Array, Message
from flwr.serverapp import Grid

from cdc_flower.simulations.grids.strategy import segment_or_none
from cdc_flower.simulations.grids.through import Through
from cdc_flower.simulations.quarantine import reasons
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group, groups_of

#: What a kind puts in the place of one reply, [1]; None where it does not concern the reply.
Made = list[MessageBatch | Message]
Make = Callable[[MessageBatch, "Hostile"], Made | None]

#: Node of the hostile device, of the honest one whose name it takes, and of nobody.
HOSTILE, NEIGHBOR, NOBODY = 3, 4, 999


@dataclass(frozen=True)
class Kind:
    """A kind of hostile reply.

    Attributes:
        make: Makes it of an honest one.
        reason: Why it is left out; "" if it is not, as one that is missing.
        count: How many replies are left out.
        on: Categories of messages that it answers.
        needs: What an honest reply must hold, such as ``floats``; "": anything.
    """

    make: Make
    reason: str
    count: int = 1
    on: tuple[str, ...] = (records.TRAIN,)
    needs: str = ""


def payload(batch: MessageBatch) -> list[tuple[str, str]]:
    """Arrays of the payload, as record and key."""
    names = [name for name in batch.array_names() if name not in records.INSTRUMENTS]
    return [
        (name, key)
        for name in names
        for key in (*batch.arrays.get(name, {}), *batch.shared.get(name, {}))
    ]


def first(batch: MessageBatch, fits: Callable[[str, np.ndarray], bool]) -> tuple[str, str] | None:
    return next((each for each in payload(batch) if fits(each[1], batch.array(*each))), None)


def with_array(batch: MessageBatch, place: tuple[str, str], value: Any) -> MessageBatch:
    """The reply with another array; arrays that all share become its own."""
    record = {key: batch.array(place[0], key) for name, key in payload(batch) if name == place[0]}
    plain = batch.without({place[0]})
    return plain.with_records(arrays={place[0]: {**record, place[1]: value}})


def floats(change: Callable[[np.ndarray], np.ndarray]) -> Make:
    def make(batch: MessageBatch, _: "Hostile") -> Made | None:
        place = first(batch, lambda _, value: value.dtype.kind == "f" and value.size > 0)
        if place is None:
            return None
        return [with_array(batch, place, change(np.array(batch.array(*place))))]

    return make


def number(value: float) -> Make:
    def change(array: np.ndarray) -> np.ndarray:
        array.reshape(-1)[-1] = value
        return array

    return floats(change)


def any_array(change: Callable[[np.ndarray], np.ndarray]) -> Make:
    def make(batch: MessageBatch, _: "Hostile") -> Made | None:
        place = first(batch, lambda _, value: value.dtype != np.uint8 or value.ndim > 2)
        return place and [with_array(batch, place, change(np.array(batch.array(*place))))]

    return make


def ids(value: int) -> Make:
    def make(batch: MessageBatch, _: "Hostile") -> Made | None:
        keys = (records.HISTORY, records.CANDIDATES, records.WORDS)
        place = first(batch, lambda key, each: key in keys and each.size > 0)
        if place is None:
            return None
        array = np.array(batch.array(*place))
        array.reshape(-1)[0] = value
        return [with_array(batch, place, array)]

    return make


def renamed(batch: MessageBatch, _: "Hostile") -> Made | None:
    place = first(batch, lambda *_: True)
    if place is None:
        return None
    record = {key: batch.array(place[0], key) for name, key in payload(batch) if name == place[0]}
    record[f"{place[1]}?"] = record.pop(place[1])
    return [batch.without({place[0]}).with_records(arrays={place[0]: record})]


def shorter(batch: MessageBatch, _: "Hostile") -> Made | None:
    place = first(batch, lambda *_: True)
    if place is None:
        return None
    record = {key: batch.array(place[0], key) for name, key in payload(batch) if name == place[0]}
    del record[place[1]]
    return [batch.without({place[0]}).with_records(arrays={place[0]: record})]


def longer(batch: MessageBatch, _: "Hostile") -> Made | None:
    place = first(batch, lambda *_: True)
    return place and [with_array(batch, (place[0], "more"), np.ones((1, 2), np.float32))]


def no_record(batch: MessageBatch, _: "Hostile") -> Made | None:
    place = first(batch, lambda *_: True)
    return place and [batch.without({place[0]})]


def more(**given: Any) -> Make:
    return lambda batch, _: [batch.with_records(**given)]


def as_message(change: Callable[[Array], Array]) -> Make:
    """A message of Flower's whose array is not what a batch could hold."""

    def make(batch: MessageBatch, _: "Hostile") -> Made | None:
        place = first(batch, lambda _, value: value.size > 0)
        if place is None:
            return None
        message = batch[0]
        record: Any = message.content[place[0]]
        record[place[1]] = change(record[place[1]])
        return [message]

    return make


def told(key: str, value: Any) -> Make:
    """Another number of examples beside a trained model."""

    def make(batch: MessageBatch, _: "Hostile") -> Made | None:
        own = batch.metrics.get(records.METRICS)
        if own is None or key not in own:
            return None
        return [batch.with_records(metrics={records.METRICS: {**own, key: np.array([value])}})]

    return make


def no_metrics(batch: MessageBatch, _: "Hostile") -> Made | None:
    if records.METRICS not in batch.metrics:
        return None
    return [batch.with_records(metrics={records.METRICS: {}})]


def own_count(batch: MessageBatch, _: "Hostile") -> Made | None:
    place = first(batch, lambda key, _: key == records.NUM_EXAMPLES)
    return place and [with_array(batch, place, batch.array(*place) + 1000)]


def work(key: str, value: float) -> Make:
    def make(batch: MessageBatch, _: "Hostile") -> Made | None:
        own = batch.configs.get(records.WORK)
        return own and [batch.with_records(configs={records.WORK: {**own, key: np.array([value])}})]

    return make


def scores(key: str, change: Callable[[np.ndarray], Any]) -> Make:
    def make(batch: MessageBatch, _: "Hostile") -> Made | None:
        own = batch.metrics[records.SCORES]
        column = np.array(own[key])
        changed = change(column)
        value = column if changed is None else changed
        return [batch.with_records(metrics={records.SCORES: {**own, key: value}})]

    return make


def cell(value: float) -> Callable[[np.ndarray], None]:
    def change(column: np.ndarray) -> None:
        column.reshape(-1)[0] = value

    return change


def without_key(batch: MessageBatch, _: "Hostile") -> Made | None:
    own = {key: value for key, value in batch.metrics[records.SCORES].items() if key != "is-shift"}
    return [batch.with_records(metrics={records.SCORES: own})]


def points(change: Callable[[np.ndarray], np.ndarray]) -> Make:
    def make(batch: MessageBatch, _: "Hostile") -> Made | None:
        own = batch.arrays.get(records.POINTS)
        if own is None:
            return None
        changed = {key: change(value) for key, value in own.items()}
        return [batch.with_records(arrays={records.POINTS: changed})]

    return make


def no_points(batch: MessageBatch, _: "Hostile") -> Made | None:
    return [batch.without({records.POINTS})] if records.POINTS in batch.arrays else None


def stale(batch: MessageBatch, hostile: "Hostile") -> Made | None:
    before = hostile.before.get(batch.message_type)
    return None if before is None else [before]


def in_name_of(node: int) -> Make:
    return lambda batch, _: [replace(batch, node_ids=np.array([node], np.uint64))]


def npy(array: Array, **changed: Any) -> Array:
    given = {"dtype": array.dtype, "shape": array.shape, "stype": array.stype, "data": array.data}
    return Array(**{**given, **changed})


BOTH = (records.TRAIN, records.EVALUATE)
EVALUATED = (records.EVALUATE,)
LABELS = {records.LABELLED: {"truth": np.ones((1, 3), np.int32)}}
KINDS: dict[str, Kind] = {
    "a NaN": Kind(number(np.nan), reasons.NOT_FINITE, needs="floats"),
    "an infinity": Kind(number(np.inf), reasons.NOT_FINITE, needs="floats"),
    "a negative infinity": Kind(number(-np.inf), reasons.NOT_FINITE, needs="floats"),
    "all NaN": Kind(
        floats(lambda array: array * np.float32(np.nan)), reasons.NOT_FINITE, needs="floats"
    ),
    "1e30": Kind(number(1e30), reasons.NORM, needs="floats"),
    "a column more": Kind(
        any_array(lambda v: np.stack([v, v], -1).reshape(1, -1)), reasons.SHAPE, needs="arrays"
    ),
    "a dimension more": Kind(any_array(lambda v: v[..., None]), reasons.SHAPE, needs="arrays"),
    "no numbers": Kind(
        any_array(lambda v: v[:, :0] if v.ndim > 1 else v[:, None]), reasons.SHAPE, needs="arrays"
    ),
    "whole numbers for others": Kind(
        floats(lambda v: v.astype(np.int64)), reasons.DTYPE, needs="floats"
    ),
    "double precision": Kind(floats(lambda v: v.astype(np.float64)), reasons.DTYPE, needs="floats"),
    "complex numbers": Kind(
        any_array(lambda v: v.astype(np.complex64)), reasons.DTYPE, needs="arrays"
    ),
    "truth values": Kind(any_array(lambda v: v.astype(np.bool_)), reasons.DTYPE, needs="arrays"),
    "another key": Kind(renamed, reasons.KEY, needs="arrays"),
    "a key less": Kind(shorter, reasons.KEY, needs="arrays"),
    "a key more": Kind(longer, reasons.KEY, needs="arrays"),
    "no arrays": Kind(no_record, reasons.RECORD, needs="arrays"),
    "labels where none belong": Kind(
        more(arrays={"labels": LABELS[records.LABELLED]}), reasons.RECORD, on=BOTH
    ),
    "an instrument more": Kind(
        more(arrays={records.LAYERS: {"w": np.ones((1, 2), np.float32)}}), reasons.RECORD, on=BOTH
    ),
    "metrics more": Kind(more(metrics={"truth": {"k": np.array([1])}}), reasons.RECORD, on=BOTH),
    "a text more": Kind(more(configs={"note": {"k": "a" * 100}}), reasons.RECORD, on=BOTH),
    "an empty record more": Kind(more(arrays={"none": {}}), reasons.RECORD, on=BOTH),
    "lengths of a codec": Kind(
        more(configs={records.PADDING: {records.ARRAYS: np.array([3])}}), reasons.RECORD, on=BOTH
    ),
    "text in an array": Kind(
        as_message(lambda a: npy(a, dtype="<U5")), reasons.UNREADABLE, needs="arrays"
    ),
    "no such type": Kind(
        as_message(lambda a: npy(a, dtype="numbers")), reasons.UNREADABLE, needs="arrays"
    ),
    "bytes that are no array": Kind(
        as_message(lambda a: npy(a, data=b"no array" * 400)), reasons.UNREADABLE, needs="arrays"
    ),
    "no bytes": Kind(as_message(lambda a: npy(a, data=b"")), reasons.UNREADABLE, needs="arrays"),
    "half the bytes": Kind(
        as_message(lambda a: npy(a, data=a.data[: len(a.data) // 2])),
        reasons.UNREADABLE,
        needs="arrays",
    ),
    "a lie about the shape": Kind(
        as_message(lambda a: npy(a, shape=(10**9, 10**9))), reasons.UNREADABLE, needs="arrays"
    ),
    "a negative length": Kind(
        as_message(lambda a: npy(a, shape=(-3,))), reasons.UNREADABLE, needs="arrays"
    ),
    "another form of array": Kind(
        as_message(lambda a: npy(a, stype="pickle")), reasons.UNREADABLE, needs="arrays"
    ),
    "far too large": Kind(
        any_array(lambda v: np.zeros((1, 500_000), v.dtype)), reasons.SHAPE, needs="arrays"
    ),
    "a negative id": Kind(ids(-1), reasons.IDS, needs="ids"),
    "an id out of range": Kind(ids(10**6), reasons.IDS, needs="ids"),
    "NaN examples": Kind(told(records.NUM_EXAMPLES, np.nan), reasons.DTYPE, needs="examples"),
    "a list of examples": Kind(told(records.NUM_EXAMPLES, [3, 4]), reasons.SHAPE, needs="examples"),
    "a fraction of examples": Kind(
        told(records.NUM_EXAMPLES, 2.5), reasons.DTYPE, needs="examples"
    ),
    "-5 examples": Kind(told(records.NUM_EXAMPLES, -5), reasons.COUNTS, needs="examples"),
    "2^62 examples": Kind(told(records.NUM_EXAMPLES, 2**62), reasons.COUNTS, needs="examples"),
    "no number of examples": Kind(no_metrics, reasons.KEY, needs="examples"),
    "more examples than came": Kind(own_count, reasons.COUNTS, needs="upload"),
    "an unknown node": Kind(in_name_of(NOBODY), reasons.OTHER_NAME, on=BOTH),
    "the same node twice": Kind(lambda batch, _: [batch, batch], reasons.TWICE, count=2, on=BOTH),
    "for its neighbor": Kind(in_name_of(NEIGHBOR), reasons.OTHER_NAME, on=BOTH),
    "a stale reply": Kind(stale, reasons.STALE, on=BOTH),
    "another message type": Kind(
        lambda batch, _: [replace(batch, message_type="query.other")], reasons.KIND, on=BOTH
    ),
    "negative work": Kind(work(records.FLOPS, -1.0), reasons.WORK),
    "NaN work": Kind(work(records.FLOPS, np.nan), reasons.WORK),
    "endless work": Kind(work(records.FLOPS, 1e300), reasons.WORK),
    "negative labels": Kind(work(records.NUM_LABELS, -3), reasons.WORK),
    "a NaN sum": Kind(scores("value-sum", cell(np.nan)), reasons.SCORES, on=EVALUATED),
    "an infinite sum": Kind(scores("value-sum", cell(np.inf)), reasons.SCORES, on=EVALUATED),
    "a sum of 1e308": Kind(scores("value-sum", cell(1e308)), reasons.SCORES, on=EVALUATED),
    "ten times the possible": Kind(
        scores("value-sum", lambda v: np.full(v.shape, 10.0 * 1e3)), reasons.SCORES, on=EVALUATED
    ),
    "a negative sum": Kind(scores("value-sum", cell(-1.0)), reasons.SCORES, on=EVALUATED),
    "negative counts": Kind(scores("value-count", cell(-1.0)), reasons.COUNTS, on=EVALUATED),
    "absurd counts": Kind(scores("value-count", cell(1e12)), reasons.COUNTS, on=EVALUATED),
    "negative events": Kind(
        scores(records.NUM_EXAMPLES, lambda v: v - 1000), reasons.COUNTS, on=EVALUATED
    ),
    "absurd events": Kind(
        scores(records.NUM_EXAMPLES, lambda v: v + 10**6), reasons.COUNTS, on=EVALUATED
    ),
    "events that are no number": Kind(
        scores(records.NUM_EXAMPLES, lambda v: v * np.nan), reasons.DTYPE, on=EVALUATED
    ),
    "another's scores": Kind(
        scores(records.DEVICE_ID, lambda v: v + 1), reasons.OTHER_NAME, on=EVALUATED
    ),
    "no scores": Kind(
        lambda batch, _: [batch.without({records.SCORES})], reasons.RECORD, on=EVALUATED
    ),
    "scores without a key": Kind(without_key, reasons.KEY, on=EVALUATED),
    "sums of other metrics": Kind(
        scores("value-sum", lambda v: np.hstack([v, v])), reasons.SHAPE, on=EVALUATED
    ),
    "other points": Kind(
        points(lambda v: np.hstack([v, v])), reasons.SHAPE, on=EVALUATED, needs="points"
    ),
    "no points": Kind(no_points, reasons.RECORD, on=EVALUATED, needs="points"),
    "a missing reply": Kind(lambda batch, _: [], "", count=0, on=BOTH),
    "an error": Kind(
        lambda batch, _: [
            replace(batch.without(batch.record_names()), errors={0: (2, "no battery")})
        ],
        "",
        count=0,
        on=BOTH,
    ),
}


@dataclass
class Seen:
    """Exchanges in which a device was hostile: segment and message type."""

    places: list[tuple[int, str]] = field(default_factory=list)


class Hostile(Through):
    """Makes the replies of one device hostile, in some segments.

    Args:
        inner: The devices.
        kind: Of the replies.
        segments: In which it is hostile.
        seen: Where it was.
    """

    def __init__(self, inner: Grid, kind: Kind, segments: Sequence[int], seen: Seen) -> None:
        super().__init__(inner)
        self.kind, self.segments, self.seen = kind, segments, seen
        self.before: dict[str, MessageBatch] = {}
        self._segment = -1

    def down(self, batch: MessageBatch) -> list[MessageBatch]:
        segment = segment_or_none(batch)
        self._segment = -1 if segment is None else segment
        return [batch]

    def all_up(self, groups: Sequence[Group]) -> list[Group]:
        made: list[Any] = []
        for batch, where in groups:
            is_hostile = np.asarray(batch.node_ids) == HOSTILE
            made.append((batch.select(~is_hostile), where[~is_hostile]))
            if is_hostile.any():
                own, place = batch.select(is_hostile), where[is_hostile]
                made += [(each, place) for each in self._made(own)]
        return [(each, place) for part, place in made for each, _ in groups_of(part) if len(each)]

    def _made(self, own: MessageBatch) -> Iterable[Any]:
        kind = own.message_type
        replies: Made | None = None
        if self._segment in self.segments and kind.split(".")[0] in self.kind.on:
            replies = self.kind.make(own, self)
        self.before[kind] = own
        if replies is None:
            return [own]
        self.seen.places.append((self._segment, kind))
        return [each if isinstance(each, MessageBatch) else [each] for each in replies]


class Lost(Through):
    """Loses the replies of the same device in the same exchanges."""

    def __init__(self, inner: Grid, seen: Seen) -> None:
        super().__init__(inner)
        self.seen, self._segment = seen, -1

    def down(self, batch: MessageBatch) -> list[MessageBatch]:
        segment = segment_or_none(batch)
        self._segment = -1 if segment is None else segment
        return [batch]

    def up(self, batch: MessageBatch) -> list[Group]:
        if (self._segment, batch.message_type) not in self.seen.places:
            return super().up(batch)
        kept = np.flatnonzero(np.asarray(batch.node_ids) != HOSTILE)
        return [(batch.select(kept), kept)]
