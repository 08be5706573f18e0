"""Rounds around Flower's four verbs, one after the other, which can stop, be saved and go on.

Does what Flower's ``Strategy.start`` does, for its strategies and ours. That one holds the round
and the global model in local variables, so it cannot begin in the middle.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from cdc_flower.core.packing import packed, unpacked
from cdc_flower.core.saveable import Arrays, Saved, part_of, prefixed, taken

#: Flower's own logger.
log = logging.getLogger("flwr")

#: Seconds for which replies of an exchange are waited for, as in Flower.
TIMEOUT_S = 3600.0
#: Metrics that a result collects, by round.
_METRICS = ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp")


class EvaluateFn(Protocol):
    """Evaluates the global model in the cloud, as Flower's ``evaluate_fn``."""

    def __call__(self, server_round: int, arrays: ArrayRecord, /) -> MetricRecord | None: ...


@dataclass
class RoundLoop:
    """Plays rounds of a strategy on a grid, and knows how far it is.

    Attributes:
        strategy: Flower's, or one of ours.
        grid: Where its messages go.
        arrays: The global model, which a round replaces when its training gives another.
        timeout_s: For how long replies of an exchange are waited for.
        train_config: Given to each training; empty by default.
        evaluate_config: Given to each evaluation; empty by default.
        evaluate_fn: Called with the global model before the first round and after each.
        done: The number of the last round that is done; 0 before the first.
        result: The global model and metrics so far, as Flower's ``start`` returns them.
    """

    strategy: Strategy
    grid: Grid
    arrays: ArrayRecord
    timeout_s: float = TIMEOUT_S
    train_config: ConfigRecord = field(default_factory=ConfigRecord)
    evaluate_config: ConfigRecord = field(default_factory=ConfigRecord)
    evaluate_fn: EvaluateFn | None = None
    done: int = 0
    result: Result = field(default_factory=Result)

    @property
    def first_round(self) -> int:
        """The round that is played next, from 1 on."""
        return self.done + 1

    def run(
        self, num_rounds: int, after_round: Callable[["RoundLoop"], object] | None = None
    ) -> Result:
        """Plays the rounds from the first that is not done up to the last.

        Args:
            num_rounds: The number of the last round.
            after_round: Called after each round, when everything of it is done.
        """
        if not self.done:
            log.info("Starting %s strategy:", type(self.strategy).__name__)
            self.strategy.summary()
            self._evaluate_here(0)
        for server_round in range(self.first_round, num_rounds + 1):
            log.info("[ROUND %s/%s]", server_round, num_rounds)
            self._train(server_round)
            self._evaluate(server_round)
            self._evaluate_here(server_round)
            self.done = server_round
            if after_round is not None:
                after_round(self)
        return self.result

    def _train(self, server_round: int) -> None:
        sent = self.strategy.configure_train(
            server_round, self.arrays, self.train_config, self.grid
        )
        replies = self.grid.send_and_receive(messages=sent, timeout=self.timeout_s)
        arrays, metrics = self.strategy.aggregate_train(server_round, replies)
        if arrays is not None:
            self.result.arrays = self.arrays = arrays
        self._note("train_metrics_clientapp", server_round, metrics)

    def _evaluate(self, server_round: int) -> None:
        sent = self.strategy.configure_evaluate(
            server_round, self.arrays, self.evaluate_config, self.grid
        )
        replies = self.grid.send_and_receive(messages=sent, timeout=self.timeout_s)
        metrics = self.strategy.aggregate_evaluate(server_round, replies)
        self._note("evaluate_metrics_clientapp", server_round, metrics)

    def _evaluate_here(self, server_round: int) -> None:
        if self.evaluate_fn is not None:
            metrics = self.evaluate_fn(server_round, self.arrays)
            self._note("evaluate_metrics_serverapp", server_round, metrics)

    def _note(self, kind: str, server_round: int, metrics: MetricRecord | None) -> None:
        if metrics is not None:
            log.info("round %s, %s: %s", server_round, kind, metrics)
            getattr(self.result, kind)[server_round] = metrics

    def to_arrays(self) -> Arrays:
        """Takes the number of rounds that are done, the global model, and the metrics so far."""
        metrics = {kind: getattr(self.result, kind) for kind in _METRICS}
        is_result = self.result.arrays is self.arrays
        return {
            "done": np.array(self.done),
            "is_result": np.array(is_result),
            **prefixed("arrays", packed(self.arrays)),
            **prefixed("metrics", packed(metrics)),
        }

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on after the saved rounds."""
        self.done = int(taken(arrays, "done", np.int64, ()))
        self.arrays = unpacked(part_of(arrays, "arrays"))
        self.result = Result(**unpacked(part_of(arrays, "metrics")))
        if taken(arrays, "is_result", np.bool_, ()):
            self.result.arrays = self.arrays
