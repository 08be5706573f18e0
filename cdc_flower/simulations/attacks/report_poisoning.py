"""Hostile devices report what they did not do: the attack on strategies without updates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.options import option
from cdc_flower.simulations.attacks.attack import Exchange, HostileAttack, attacks
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

RANDOM = "random"
OTHER_CONTEXT = "other_context"
LEAST_POPULAR = "least_popular"
#: Names that reports give encoded pictures begin with this; noise would be no picture.
PICTURE = "picture-"


@attacks.register("report_poisoning")
@dataclass(eq=False)
class ReportPoisoning(HostileAttack):
    """Puts other items, or other frames, into the reports of hostile devices.

    Other kinds of message are left alone, and so is what a device tells beside its data, such as
    the prototype that it holds.
    """

    kind: str = option(
        RANDOM,
        choices=(RANDOM, OTHER_CONTEXT, LEAST_POPULAR),
        doc="random: drawn items, or noise in place of frames and features; other_context: "
        "the report of an honest device of another context, the same for all of one; "
        "least_popular: the items that history has least often, the same for all",
    )

    def attacked(self, exchange: Exchange) -> MessageBatch:
        """Changes reports."""
        replies = exchange.replies
        held = replies.arrays.get(records.REPORT, {}) | {
            key: replies.array(records.REPORT, key)
            for key in replies.shared.get(records.REPORT, {})
        }
        told = {key: value for key, value in held.items() if is_data(key, value)}
        if replies.message_type != records.TRAIN_REPORT or not told:
            return replies
        hostile = np.flatnonzero(exchange.is_hostile)
        donors = self._donors(exchange, hostile)
        arrays = {}
        for key, value in told.items():
            arrays[key] = np.array(value)
            if donors is not None:
                arrays[key][hostile] = value[donors]
            elif self.kind == LEAST_POPULAR and key == records.HISTORY:
                arrays[key][hostile] = least_popular(value[hostile], exchange)
            elif self.kind == RANDOM:
                arrays[key][hostile] = drawn(key, value, hostile, exchange)
        whole = {records.REPORT: {**held, **arrays}}
        return replies.without({records.REPORT}).with_records(arrays=whole)

    def _donors(self, exchange: Exchange, hostile: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Draws the honest device ``[m]`` whose report each hostile one sends; None: nobody's.

        Args:
            exchange: Of all.
            hostile: ``[m]``, rows.
        """
        honest = np.flatnonzero(~exchange.is_hostile)
        if self.kind != OTHER_CONTEXT:
            return None
        if not len(honest):
            return hostile
        contexts = exchange.scene.contexts(exchange.device_ids, exchange.segment)
        order = honest[exchange.draws.permutation(len(honest))]
        found = {}
        for own in np.unique(contexts[hostile]):
            others = order[contexts[order] != own]
            found[own] = (others if len(others) else order)[0]
        return np.array([found[own] for own in contexts[hostile]])


def is_data(key: str, value: NDArray) -> bool:
    """Tells whether an array of a report is of recent data: items, frames or a feature."""
    is_picture = value.dtype == np.uint8 and not key.startswith(PICTURE)
    return key == records.HISTORY or value.dtype.kind == "f" or is_picture


def drawn(key: str, value: NDArray, hostile: NDArray[np.int64], exchange: Exchange) -> NDArray:
    """Draws as much as hostile devices would have told, ``[m, ...]``.

    Items are drawn alike, pixels are noise, and numbers of a feature are normal with mean and
    deviation of the honest ones.

    Args:
        key: Of the array.
        value: Of all devices, ``[k, ...]``.
        hostile: ``[m]``, rows.
        exchange: With who draws.
    """
    own = value[hostile]
    draws = exchange.draws
    if key == records.HISTORY:
        items = draws.integers(1, exchange.scene.num_items + 1, own.shape)
        return np.where(own == 0, 0, items).astype(value.dtype)
    if value.dtype == np.uint8:
        return draws.integers(0, 256, own.shape, np.uint8)
    honest = value if exchange.is_hostile.all() else value[~exchange.is_hostile]
    made = honest.mean() + honest.std() * draws.standard_normal(own.shape)
    return np.asarray(made, value.dtype)


def least_popular(own: NDArray, exchange: Exchange) -> NDArray:
    """Gives each device ``[m, R]`` the rarest items of history, of equals the first.

    Args:
        own: What hostile devices would have told; places without an item stay so.
        exchange: With the popularity.
    """
    order = np.argsort(exchange.scene.popularity()[1:], kind="stable") + 1
    items = np.resize(order, own.shape[1])
    return np.where(own == 0, 0, items).astype(own.dtype)
