"""Hostile devices send again what they sent some segments before."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.options import option
from cdc_flower.core.packing import packed, unpacked
from cdc_flower.core.saveable import Arrays, Saved
from cdc_flower.simulations.attacks.attack import Exchange, HostileAttack, attacks
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

#: Records that are sent again.
_REPLAYED = (records.ARRAYS, records.REPORT, records.LABELLED)
#: Segment of a reply, and its arrays by record and name.
_Kept = tuple[int, dict[str, dict[str, NDArray]]]


@attacks.register("stale_replay")
@dataclass(eq=False)
class StaleReplay(HostileAttack):
    """Sends the newest reply of the same kind that is old enough, if it has the same shape."""

    segments: int = option(2, least=0, neutral=0, doc="that a reply is old at least; 0 is honest")
    _kept: dict[str, list[_Kept]] = field(default_factory=dict, init=False, repr=False)

    def attacked(self, exchange: Exchange) -> MessageBatch:
        """Keeps what hostile devices would have sent, and sends what they kept."""
        replies = exchange.replies
        names = [name for name in replies.array_names() if name in _REPLAYED]
        if not names or not self.segments:
            return replies
        arrays = {
            record: {key: np.array(replies.array(record, key)) for key in _keys(replies, record)}
            for record in names
        }
        for row in np.flatnonzero(exchange.is_hostile):
            now = {
                record: {key: np.array(value[row]) for key, value in held.items()}
                for record, held in arrays.items()
            }
            place = f"{replies.message_type}/{exchange.device_ids[row]}"
            old = self._replaced(place, exchange.segment, now)
            for record, held in old.items():
                for key, value in held.items():
                    arrays[record][key][row] = value
        return replies.without(names).with_records(arrays=arrays)

    def _replaced(
        self, place: str, segment: int, now: dict[str, dict[str, NDArray]]
    ) -> dict[str, dict[str, NDArray]]:
        """Keeps a reply, and gives the one that goes in its place; {} where none fits.

        Args:
            place: Of the device and the kind of message.
            segment: Of the reply.
            now: The reply.
        """
        kept = self._kept.setdefault(place, [])
        kept.append((segment, now))
        old = [each for each in kept if each[0] <= segment - self.segments]
        if not old:
            return {}
        self._kept[place] = [old[-1], *kept[len(old) :]]  # older ones are never sent again
        return old[-1][1] if _layout(old[-1][1]) == _layout(now) else {}

    def to_arrays(self) -> Arrays:
        """Takes the replies that may be sent again."""
        return packed(self._kept)

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with saved replies."""
        self._kept = unpacked(arrays)


def _keys(replies: MessageBatch, record: str) -> list[str]:
    return [*replies.arrays.get(record, {}), *replies.shared.get(record, {})]


def _layout(reply: dict[str, dict[str, NDArray]]) -> list[tuple[str, str, tuple[int, ...], str]]:
    """Lists records, names, shapes and types of a reply."""
    return [
        (record, key, value.shape, value.dtype.str)
        for record, held in reply.items()
        for key, value in held.items()
    ]
