"""Persona where the best head of each sequence is known, and is one of four: one for each cluster
of sequences.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from generation_cases import KnownOptimum
from torch import Tensor

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models.base import DeviceModel, item_embedding
from cdc_flower.models.layers import Parameters, embed, last_valid
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.group_fine_tuning import GroupFineTuning
from cdc_flower.strategies.persona import Persona
from cdc_flower.training.fit import cross_entropy
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

pytestmark = pytest.mark.slow

WIDTH, LENGTH = 8, 6
#: Items 1 and 2 are chosen from, 3 to 6 come last, and each cluster has three of its own.
CHOICES, LAST, FIRST_OF_CLUSTER, ITEMS_OF_CLUSTER = (1, 2), (3, 4, 5, 6), 7, 3
#: For each cluster, which choice follows each of the four last items. Over all clusters each is as
#: likely.
FOLLOWS = np.array([[0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
NUM_CLUSTERS = len(FOLLOWS)
#: How often the other choice is made all the same.
NOISE = 0.1
#: The loss of one head for all, which cannot do better than to call both choices equally likely.
CHANCE = float(np.log(2))
TRAINING: dict[str, Any] = {"epochs": 20, "rate": 0.02, "width": 16}


class LastItem(DeviceModel):
    """A device model that looks at the last item only: x is its embedding, and the score ``⟨x K +
    k, candidate⟩``.
    """

    def __init__(self) -> None:
        super().__init__(FIRST_OF_CLUSTER + NUM_CLUSTERS * ITEMS_OF_CLUSTER, WIDTH, LENGTH)
        self.head_sizes = ((WIDTH, WIDTH),)

    def init_static(self, generator: torch.Generator) -> Parameters:
        return {"embedding": 4.0 * item_embedding(generator, self.num_items, self.width)}

    def tabulate(self, parameters: Parameters) -> Parameters:
        return parameters

    def item_states(self, parameters: Parameters, history: Tensor) -> Tensor:
        return embed(parameters["embedding"], history)

    def encode(
        self, parameters: Parameters, history: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        last = history.gather(-1, last_valid(history).unsqueeze(-1))
        return embed(parameters["embedding"], last), embed(parameters["embedding"], candidates)

    def flops(self, num_candidates: int) -> float:
        return self.head_flops(num_candidates)


@dataclass
class ClusteredOptimum(KnownOptimum):
    """The cluster of the items before decides what the user chooses after the last item.

    With ``is_shuffled`` the items before are those of another example, and tell nothing.
    """

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.cluster = rng.integers(0, NUM_CLUSTERS, self.num_examples)
        items = rng.integers(0, ITEMS_OF_CLUSTER, (self.num_examples, LENGTH - 1))
        before = FIRST_OF_CLUSTER + self.cluster[:, None] * ITEMS_OF_CLUSTER + items
        last = rng.integers(0, len(LAST), self.num_examples)
        choice = FOLLOWS[self.cluster, last] ^ (rng.random(self.num_examples) < NOISE)
        if self.is_shuffled:
            before = before[rng.permutation(self.num_examples)]
        self.share_of_noise = float(np.mean(choice != FOLLOWS[self.cluster, last]))
        self.history = np.column_stack([before, np.take(LAST, last)]).astype(np.int32)
        self.candidates = np.column_stack(
            [np.take(CHOICES, choice), np.take(CHOICES, 1 - choice)]
        ).astype(np.int32)

    def lagged(self, rows: np.ndarray, lag: np.ndarray) -> np.ndarray:
        return self.history[rows]


HELD_OUT = ClusteredOptimum(400, 2, is_shuffled=False)
#: The loss of who knows the cluster, what follows, and the noise.
ORACLE = -HELD_OUT.share_of_noise * np.log(NOISE) - (1 - HELD_OUT.share_of_noise) * np.log(
    1 - NOISE
)


@lru_cache(maxsize=2)
def cloud(is_shuffled: bool) -> Cloud:
    """Strategies on one cloud train what they share once."""
    model = LastItem()
    parts = ClusteredOptimum(2000, 1, is_shuffled), ClusteredOptimum(400, 3, is_shuffled)
    parameters = model.init(torch_generator(0, "model"))
    return Cloud(
        model, parameters, *parts, 0, batch_size=250, identity=f"clusters, shuffled {is_shuffled}"
    )


def prepared(built: Any, is_shuffled: bool = False) -> Any:
    """A strategy after its training."""
    built.prepare(cloud(is_shuffled))
    return built


def report_of_held_out() -> MessageBatch:
    """Each held-out example is a device that reports its items."""
    report = {records.REPORT: {records.HISTORY: HELD_OUT.history}}
    return MessageBatch(
        records.TRAIN_REPORT, np.arange(2, 2 + HELD_OUT.num_examples), arrays=report, is_reply=True
    )


def loss_on_devices(built: Any) -> float:
    """The held-out loss of devices that report their items and predict with what they get."""
    model = built.cloud.model
    own = {
        name: torch.zeros(HELD_OUT.num_examples, *shape) for name, shape in model.adaptive.items()
    }
    for down in built.answer(report_of_held_out()):
        place = torch.from_numpy(np.asarray(down.node_ids, np.int64) - 2)
        for name, value in own.items():
            value[place] = torch.tensor(down.array(records.PARAMETERS, name))
    history, candidates = (
        torch.from_numpy(ids).long() for ids in (HELD_OUT.history, HELD_OUT.candidates)
    )
    logits = model.score({**built.parameters, **own}, history[:, None], candidates[:, None])
    return float(cross_entropy(logits).mean())


def test_one_head_for_all_learns_nothing() -> None:
    assert loss_on_devices(prepared(GroupFineTuning(num_groups=1, **TRAINING))) == pytest.approx(
        CHANCE, abs=0.03
    )


def test_edits_of_one_prototype_find_every_clusters_best_head_from_its_own_sequence() -> None:
    persona = Persona(num_prototypes=1, **TRAINING)
    assert loss_on_devices(prepared(persona)) == pytest.approx(ORACLE, abs=0.03)
    assert loss_on_devices(prepared(persona, is_shuffled=True)) == pytest.approx(CHANCE, abs=0.03)


def test_as_many_prototypes_as_clusters_come_close_without_any_edit() -> None:
    assert (
        loss_on_devices(prepared(GroupFineTuning(num_groups=NUM_CLUSTERS, **TRAINING)))
        < ORACLE + 0.05
    )


def test_edits_of_prototypes_that_fit_reach_as_far_and_are_smaller() -> None:
    one, four = (
        prepared(Persona(num_prototypes=number, assignment="static", **TRAINING))
        for number in (1, NUM_CLUSTERS)
    )
    assert [loss_on_devices(persona) for persona in (one, four)] == pytest.approx(
        [ORACLE, ORACLE], abs=0.05
    )
    sizes: list[Any] = [persona.seen["mean-edit-norm"] for persona in (one, four)]
    assert 0 < sizes[1] < 0.6 * sizes[0]


def test_the_prototype_that_needs_the_smallest_edit_needs_less_than_the_nearest_one() -> None:
    four, sizes = prepared(Persona(num_prototypes=NUM_CLUSTERS, **TRAINING)), {}
    for four.assignment in ("static", "dynamic"):
        four.answer(report_of_held_out())
        sizes[four.assignment] = four.seen["mean-edit-norm"]
    assert sizes["dynamic"] < sizes["static"]
