"""Layouts of what devices send up in an exchange: those of most replies, known to both ends.

A reply that is laid out otherwise is handed through as it is, so that no device decides how those
of others are read.
"""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from cdc_flower.simulations.protocol.encoding import Layout
from cdc_flower.wire.batch import MessageBatch

_Fields = frozenset[tuple[str, tuple[tuple[int, ...], np.dtype]]]


def layout_of(batch: MessageBatch, record: str) -> Layout:
    """Lays out the arrays of a record, first each message's own, then those that all share."""
    own = {
        key: (value.shape[1:], value.dtype) for key, value in batch.arrays.get(record, {}).items()
    }
    shared = batch.shared.get(record, {})
    return {**own, **{key: (value.shape, value.dtype) for key, value in shared.items()}}


class ToldLayouts:
    """Knows the layout of each record in the exchange under way."""

    def __init__(self) -> None:
        self._known: dict[str, Layout] = {}
        self._learned: set[str] = set()  # in this exchange

    def begin(self) -> None:
        """Begins an exchange, in which messages may go down in several batches."""
        self._learned.clear()

    def learn(
        self,
        batches: Iterable[MessageBatch],
        record_of: Callable[[MessageBatch], str | None],
        fits: Callable[[str, Layout], bool],
    ) -> None:
        """Takes the layout that most of the first replies of an exchange have.

        Args:
            batches: Replies that came together.
            record_of: Finds the record of a reply that is encoded.
            fits: Tells whether a record can be laid out so at all.
        """
        counted: dict[str, Counter[_Fields]] = {}
        layouts: dict[_Fields, Layout] = {}
        for batch in batches:
            record = record_of(batch)
            num_replies = len(batch) - len(batch.errors)
            if record is None or record in self._learned or not num_replies:
                continue
            layout = layout_of(batch, record)
            if fits(record, layout):
                fields = frozenset(layout.items())
                layouts.setdefault(fields, layout)
                counted.setdefault(record, Counter())[fields] += num_replies
        for record, count in counted.items():
            before = frozenset(self.of(record).items())
            most = max(count, key=lambda fields: (count[fields], fields == before))
            self._known[record] = layouts[most]
            self._learned.add(record)

    def knows(self, batch: MessageBatch, record: str) -> bool:
        """Tells whether a reply is laid out as most are."""
        return layout_of(batch, record) == self._known.get(record)

    def of(self, record: str) -> Layout:
        """Gives the layout of a record; empty where nobody has sent one."""
        return self._known.get(record, {})
