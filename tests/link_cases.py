"""Devices behind links: messages of known sizes, and grids that tell what they were."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flwr.app import Message
from tiny import Around, counting_app

from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

STARTS_S = np.array([0.0, 100.0, 200.0, 300.0])


def size(batch: MessageBatch) -> np.ndarray:
    """Bytes of each message on the wire, which ``tests/wire/test_batch.py`` holds to protobuf."""
    return batch.without(records.INSTRUMENTS).wire_bytes()


def ask(segment: int, nodes: Iterable[int] = (2, 3), kind: str = "train.report") -> MessageBatch:
    return MessageBatch(
        kind, np.array([*nodes]), configs={records.CLOCK: {records.SEGMENT: segment}}
    )


def hand_out(
    segment: int, nodes: Iterable[int] = (2, 3), flops: float = 0.0, value: float = 0.0
) -> MessageBatch:
    nodes = np.array([*nodes])
    return MessageBatch(
        "evaluate",
        nodes,
        arrays={records.PARAMETERS: {"w": np.full((len(nodes), 50), value, np.float32)}},
        configs={records.CLOCK: {records.SEGMENT: segment}, records.WORK: {records.FLOPS: flops}},
    )


def answer(batch: MessageBatch, up_flops: float = 0.0, num_numbers: int = 10) -> MessageBatch:
    """A device that reports ten numbers when it is asked, and scores when it evaluates."""
    if batch.message_type == "evaluate":
        return batch.reply(
            metrics={records.SCORES: {records.NUM_EXAMPLES: np.ones(len(batch), np.int64)}}
        )
    work = {
        records.WORK: {
            records.FLOPS: np.full(len(batch), up_flops),
            records.NUM_LABELS: np.full(len(batch), 3),
        }
    }
    return batch.reply(
        arrays={records.REPORT: {"x": np.zeros((len(batch), num_numbers), np.float32)}},
        configs=work if up_flops else {},
    )


def lonely(nodes: int = 2) -> InlineGrid:
    return InlineGrid(counting_app(), np.arange(nodes))


class Devices(Around):
    """Nodes 2, 3, ... that answer as a function says."""

    def __init__(
        self, reply: Callable[[MessageBatch], Iterable[Message]] = answer, nodes: int = 2
    ) -> None:
        super().__init__(lonely(nodes))
        self.reply = reply

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Iterable[Message]:
        self.sent.append(messages)
        return self.reply(messages)


#: Bytes of one report, and of one message with new layers.
UP = int(size(answer(ask(0)))[0])
DOWN = int(size(hand_out(0))[0])


def links_of(
    rates_up: list[float], rates_down: list[float], rtt_s: float = 0.0, cloud: float = 1.0
) -> Fleet:
    n = len(rates_up)
    return Fleet(np.array(rates_up), np.array(rates_down), np.full(n, rtt_s), np.ones(n), cloud)


def watched(
    inner: Any, links: Fleet, starts_s: Any = STARTS_S, **options: Any
) -> tuple[LinkGrid, list]:
    seen: list = []
    grid = LinkGrid(inner, links, starts_s, observer=lambda *args: seen.append(args), **options)
    return grid, seen
