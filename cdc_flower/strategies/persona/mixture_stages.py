"""Persona's training in the cloud where prototypes are heads of regimes.

    R1   heads of regimes     expectation-maximisation over windows of history; static layers frozen
    R2   one editor           on the mixture that each historical report gives, static layers frozen

Both end with what is best on held-out historical data, or as they began.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import generator, torch_generator
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.base import Cloud, History, Stage
from cdc_flower.strategies.past import Examples, NumberedBatch
from cdc_flower.strategies.persona.births import misfit_level
from cdc_flower.strategies.persona.likelihood import Pairs
from cdc_flower.strategies.persona.mixing import Mixture, mixed, weights
from cdc_flower.strategies.persona.regimes import LabelledPast, PastPairs, Search
from cdc_flower.strategies.persona.stages import Stages
from cdc_flower.training.checkpoints import Checkpoints

#: Held-out examples at which mixtures are compared.
MAX_HELD_OUT = 2048


@dataclass(frozen=True)
class MixedExamples(Examples):
    """Labelled examples with the mixture that each of their devices would have had.

    Attributes:
        weight: w, ``[B, N]``.
    """

    weight: Tensor


@dataclass(frozen=True)
class PastWeights:
    """Weights of prototypes at any moment of the past, from one table of all its pairs.

    Attributes:
        pairs: Of the history.
        total: ``[M + 1, N]``, sums of ``-log p`` over all pairs before.
        mixture: Of the prototypes.
    """

    pairs: PastPairs
    total: Tensor
    mixture: Mixture

    @staticmethod
    def of(pairs: PastPairs, heads: Parameters, mixture: Mixture) -> "PastWeights":
        """Scores all pairs under every head, once.

        Args:
            pairs: Of the history.
            heads: ``[N, ...]`` by name.
            mixture: Of them.
        """
        table = mixture.likelihood.table(heads, pairs.history, pairs.target).double()
        zero = torch.zeros(1, table.shape[1], dtype=torch.float64)
        return PastWeights(pairs, torch.cat([zero, table.cumsum(0)]), mixture)

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """Finds the first pair of each pair's device."""
        return self.pairs.first

    def at(self, rows: NDArray[np.int64], lag: NDArray[np.int64], num_pairs: int) -> Tensor:
        """Computes w ``[B, N]`` of the reports that devices would have made before examples.

        Args:
            rows: ``[B]``, which examples.
            lag: ``[B]``, events by which the report is earlier.
            num_pairs: Pairs of a report that count.
        """
        stop = np.maximum(rows - lag, self.first[rows])
        start = np.maximum(stop - num_pairs, self.first[rows])
        found = self.total[torch.from_numpy(stop)] - self.total[torch.from_numpy(start)]
        return weights(found, self.mixture.sharpness).float()


@dataclass(frozen=True)
class MixtureStages:
    """Both stages of one training.

    Attributes:
        stages: Data and options that all of Persona's stages have in common.
        mixture: How prototypes are mixed.
        num_heads: N.
        max_pairs: That heads are found on at most.
    """

    stages: Stages
    mixture: Mixture
    num_heads: int
    max_pairs: int

    @property
    def cloud(self) -> Cloud:
        """Gives data and base model."""
        return self.stages.cloud

    @property
    def settings(self) -> dict[str, object]:
        """Lists all that the stages depend on beside the cloud, as plain values."""
        own = {
            "num_pairs": self.mixture.num_pairs,
            "sharpness": self.mixture.sharpness,
            "hedge": self.mixture.hedge,
            "num_heads": self.num_heads,
            "max_pairs": self.max_pairs,
            "epochs": self.stages.epochs,
            "rate": self.stages.rate,
        }
        return {**self.stages.past.settings, **own}

    def heads(self) -> Parameters:
        """Finds R1, ``[N, ...]`` by name; a single one is the base model's head."""
        cloud, stages = self.cloud, self.stages
        search = Search(
            self.mixture.likelihood,
            self.mixture.base,
            self.num_heads,
            stages.epochs if stages.rate else 0,
            stages.rate,
            self.mixture.num_pairs,
            cloud.seed,
        )
        heads = search.start()
        if self.num_heads == 1 or not search.rounds:
            return heads
        what = "persona: heads of regimes"
        key = {"what": what, "base": cloud.identity, "settings": self.settings}
        step = cloud.progress(what, search.rounds)
        checkpoints = cloud.checkpoints if cloud.identity else Checkpoints()
        past = past_pairs(cloud.train).of_first_devices(self.max_pairs)
        held_out = self._held_out_loss()
        curve = checkpoints.trained(key, heads, lambda _: search.run(heads, past, held_out, step))
        cloud.diary.enter(what, curve, cloud.schedule)
        return {name: value.detach() for name, value in heads.items()}

    def _held_out(self) -> tuple[NDArray[np.int64], Pairs]:
        """Draws held-out examples, and the pairs of the reports before them."""
        past, seed = self.cloud.validation, self.cloud.seed
        order = generator(seed, "persona", "held-out").permutation(past.num_examples)
        rows = np.sort(order[:MAX_HELD_OUT])
        lag = self.stages.past.lags(len(rows), generator(seed, "persona", "held-out-lag"))
        reported = self.stages.past.at(past, rows, lag)
        return rows, self.mixture.pairs(reported.numpy().astype(np.int32))

    def _held_out_loss(self) -> Callable[[Parameters], float]:
        """Gives a function: heads -> mean ``-log p`` of held-out examples under their mixtures."""
        rows, pairs = self._held_out()
        if not len(rows):
            return lambda heads: 0.0
        past = self.cloud.validation
        batch = past.batch(rows, 0, self.cloud.seed, self.cloud.num_negatives)
        history = torch.from_numpy(np.asarray(batch.history, np.int64))
        target = torch.from_numpy(np.asarray(batch.candidates[:, 0], np.int64))
        losses = self.mixture.likelihood.losses(history, target)

        @torch.no_grad()
        def loss(heads: Parameters) -> float:
            found = {name: value.detach() for name, value in heads.items()}
            layers = self.mixture.heads(found, self.mixture.weights(found, pairs))
            return float(losses(layers).mean())

        return loss

    @torch.no_grad()
    def misfit_level(self, heads: Parameters) -> float:
        """Finds the level above which a report fits badly; infinity without held-out data."""
        rows, pairs = self._held_out()
        if not len(rows):
            return float("inf")
        count = pairs.last(self.mixture.num_pairs).sum(1)
        return misfit_level(self.mixture.evidence(heads, pairs), count)

    def no_editor(self) -> Parameters:
        """Draws an editor that is not trained, all of whose edits are zero."""
        return self.stages.editor.init(torch_generator(self.cloud.seed, "persona"))

    def editor(self, heads: Parameters) -> Parameters:
        """Trains R2: the editor's parameters, on top of mixtures of the heads.

        Args:
            heads: Of R1.
        """
        cloud, editor = self.cloud, self.stages.editor
        own = self.no_editor()
        if not self.stages.epochs or not self.stages.rate or not editor.clip:
            return own
        model = {name: value.detach() for name, value in cloud.parameters.items()}
        fixed, seen_with = cloud.model.tabulate(model), cloud.model.tabulate_sequences(model)
        leaves = list(editor.trained(own).values())

        def loss(examples: MixedExamples) -> Tensor:
            feature = editor.feature(own, seen_with, examples.reported)
            edits = editor.edits(own, editor.embeddings(own, feature))
            layers = mixed(heads, examples.weight, self.mixture.base, self.mixture.hedge)
            layers = {name: value + edits[name] for name, value in layers.items()}
            x, targets = cloud.model.encode(fixed, examples.history, examples.candidates)
            return cloud.model.loss(cloud.model.match(cloud.model.head(layers, x), targets)).mean()

        weights_then = PastWeights.of(past_pairs(cloud.train), heads, self.mixture)
        validation = list(self._validation(heads))
        for leaf in leaves:
            leaf.requires_grad_()
        what = "persona: editor of mixtures"
        settings = {**self.stages.settings, **self.settings}
        cloud.fit(
            Stage(what, settings, own, leaves, self.stages.epochs, self.stages.rate),
            loss,
            batches=lambda epoch: self._train(weights_then, cloud.batches(epoch), epoch),
            held_out=lambda: validation,
        )
        for leaf in leaves:
            leaf.requires_grad_(False)
        return own

    def _train(
        self, weights_then: PastWeights, batches: Iterable[NumberedBatch], epoch: int
    ) -> Iterator[MixedExamples]:
        """Adds reports, as old as they will be, and their mixtures to batches."""
        past, draws = self.stages.past, generator(self.cloud.seed, "persona", "mixed-lag", epoch)
        num_pairs = min(self.mixture.num_pairs, self.num_pairs_told)
        for batch in batches:
            lag = past.lags(len(batch.rows), draws)
            weight = weights_then.at(batch.rows, lag, num_pairs)
            yield mixed_examples(batch, past.at(self.cloud.train, batch.rows, lag), weight)

    @property
    def num_pairs_told(self) -> int:
        """Counts the pairs of a full report."""
        past = self.stages.past
        return max(0, past.told.num_items(past.history_length) - 1)

    def _validation(self, heads: Parameters) -> Iterator[MixedExamples]:
        """Makes held-out examples with their mixtures, from the reports themselves."""
        past, validation = self.stages.past, self.cloud.validation
        draws = generator(self.cloud.seed, "persona", "validation-mixed-lag")
        for batch in self.cloud.held_out():
            reported = past.at(validation, batch.rows, past.lags(len(batch.rows), draws))
            pairs = self.mixture.pairs(reported.numpy().astype(np.int32))
            yield mixed_examples(batch, reported, self.mixture.weights(heads, pairs))


def mixed_examples(batch: NumberedBatch, reported: Tensor, weight: Tensor) -> MixedExamples:
    """Makes examples of a historical batch.

    Args:
        batch: Labelled.
        reported: ``[B, R]``, what each device would have told.
        weight: w, ``[B, N]``.
    """
    history, candidates = (
        torch.from_numpy(np.asarray(ids, np.int64)) for ids in (batch.history, batch.candidates)
    )
    return MixedExamples(history, candidates, reported, weight)


def past_pairs(history: History) -> PastPairs:
    """Takes the pairs of a history.

    Raises:
        UserError: If its examples do not tell what was chosen, as those of video do not.
    """
    if not isinstance(history, LabelledPast):
        raise UserError(
            "strategy.persona.cluster_on=likelihood must go with task=recommendation: "
            "it needs reports of items that follow each other, and frames have none"
        )
    return PastPairs.of(history)
