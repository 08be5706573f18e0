"""A small exchange of five devices, of which two are hostile, for the tests of attacks."""

from typing import Any

import numpy as np

from cdc_flower.core.seeds import generator
from cdc_flower.simulations.attacks import Exchange, Scene, attacks
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

HOSTILE = np.array([False, True, False, False, True])
SENT = {"w": np.array([1.0, 2.0], np.float32), "b": np.array([[0.5]], np.float32)}
UPDATES = np.array([[1, 0, 2], [4, 4, 4], [2, 1, 0], [3, 2, 4], [0, 0, 1]], np.float64)
POPULARITY = np.array([0, 5, 1, 9, 1, 7, 0, 3])
CONTEXTS = np.array([0, 0, 0, 1, 1])


def made(name: str, **settings: Any) -> Any:
    return attacks[name].value(name=name, **settings)


def scene() -> Scene:
    contexts = lambda device_ids, segment: CONTEXTS[device_ids]  # noqa: E731
    return Scene(len(POPULARITY) - 1, lambda: POPULARITY, contexts)


def exchange(replies: MessageBatch, *, sent: Any = None, segment: int = 3) -> Exchange:
    rows = np.asarray(replies.node_ids).astype(np.int64) - 2
    return Exchange(
        replies,
        rows,
        HOSTILE[rows],
        sent or {},
        segment,
        generator(0, "attack", replies.message_type, segment),
        scene(),
    )


def trained(updates: np.ndarray = UPDATES) -> MessageBatch:
    arrays = {
        "w": (SENT["w"] + updates[:, :2]).astype(np.float32),
        "b": (SENT["b"] + updates[:, 2:, None]).astype(np.float32),
    }
    return MessageBatch(
        records.TRAIN,
        np.arange(len(updates)) + 2,
        arrays={records.ARRAYS: arrays},
        metrics={records.METRICS: {records.NUM_EXAMPLES: np.arange(len(updates)) + 1}},
        configs={records.WORK: {records.FLOPS: np.arange(len(updates)) * 1.0}},
        is_reply=True,
    )


def sent_to(count: int = 5) -> dict[str, np.ndarray]:
    return {name: np.broadcast_to(value, (count, *value.shape)) for name, value in SENT.items()}


def updates_after(name: str, **settings: Any) -> np.ndarray:
    """The updates of all devices after an attack, in the order of the numbers of the model."""
    replies = made(name, **settings).attacked(exchange(trained(), sent=sent_to()))
    arrays = replies.arrays[records.ARRAYS]
    parts = [(arrays[key] - value).reshape(len(replies), -1) for key, value in SENT.items()]
    return np.concatenate(parts, axis=1)


def reported(history: Any = None, **arrays: Any) -> MessageBatch:
    told = {} if history is None else {records.HISTORY: np.asarray(history, np.int32)}
    told |= {key: np.asarray(value) for key, value in arrays.items()}
    count = len(next(iter(told.values())))
    return MessageBatch(
        records.TRAIN_REPORT,
        np.arange(count) + 2,
        arrays={records.REPORT: told},
        configs={records.WORK: {records.NUM_TOLD: np.full(count, 3)}},
        is_reply=True,
    )
