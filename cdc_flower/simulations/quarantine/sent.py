"""Models that were sent to be trained: what comes back must have their names and shapes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.simulations.quarantine import reasons
from cdc_flower.simulations.quarantine.identity import Rows
from cdc_flower.simulations.quarantine.schema import ARRAY, Schema
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

#: Record of a model that is sent to be trained, and comes back.
MODEL = records.ARRAYS


@dataclass(frozen=True)
class Sent:
    """The models of one exchange.

    Attributes:
        batches: Messages with a model.
        rows: Finds the rows of nodes.
        deployed: Arrays of the devices' model, in whose types they may come back.
    """

    batches: tuple[MessageBatch, ...]
    rows: Rows
    deployed: Arrays

    @staticmethod
    def of(sent: Sequence[MessageBatch], rows: Rows, deployed: Arrays) -> "Sent":
        """Keeps the messages that hold a model.

        Args:
            sent: All messages of an exchange.
            rows: Finds the rows of nodes.
            deployed: Arrays of the devices' model.
        """
        return Sent(tuple(b for b in sent if MODEL in b.array_names()), rows, deployed)

    def difference(self, schema: Schema) -> str:
        """Names what sets a model in a reply apart from those that were sent; "" for nothing."""
        if not self.batches:
            return ""
        found = {key: (dtype, shape) for key, dtype, shape in _model(schema)}
        if not found:
            return reasons.RECORD
        reason = ""
        for batch in self.batches:
            reason = self._difference(found, batch)
            if not reason:
                return ""
        return reason

    def _difference(
        self, found: dict[str, tuple[str, tuple[int, ...]]], batch: MessageBatch
    ) -> str:
        held = {**batch.shared.get(MODEL, {})}
        own = batch.arrays.get(MODEL, {})
        shapes = {key: value.shape for key, value in held.items()}
        shapes |= {key: value.shape[1:] for key, value in own.items()}
        types = {key: {value.dtype.str} for key, value in {**held, **own}.items()}
        if found.keys() != shapes.keys():
            return reasons.KEY
        for key, (dtype, _) in found.items():
            fits = types[key] | ({self.deployed[key].dtype.str} if key in self.deployed else set())
            if dtype not in fits:
                return reasons.DTYPE
        is_same = all(found[key][1] == shapes[key] for key in found)
        return "" if is_same else reasons.SHAPE

    def without(self, schema: Schema) -> Schema:
        """Leaves out of a schema what is compared with the models that were sent."""
        if not self.batches:
            return schema
        return frozenset(field for field in schema if field[:2] != (ARRAY, MODEL))

    def of_rows(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], MessageBatch]]:
        """Finds what devices were sent.

        Args:
            rows: ``[k]``, of the devices.

        Returns:
            Places ``[j]`` among them, and their messages in the same order.
        """
        for batch in self.batches:
            asked = self.rows.of(batch.node_ids)
            place = {int(row): at for at, row in enumerate(asked)}
            where = np.array([k for k, row in enumerate(rows.tolist()) if row in place], np.int64)
            if len(where):
                yield where, batch.select([place[int(rows[k])] for k in where])


def _model(schema: Schema) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Goes through the arrays of the model in a schema: key, type and shape."""
    for kind, record, key, dtype, shape in schema:
        if (kind, record) == (ARRAY, MODEL) and key:
            yield key, dtype, shape
