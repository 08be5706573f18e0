"""Persona where the best head of each sequence is known, and is one of four: one for each cluster of sequences."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from generation_cases import KnownOptimum
from torch import Tensor

from cdc_flower import records
from cdc_flower.batch import MessageBatch
from cdc_flower.layers import Parameters, embed, last_valid
from cdc_flower.models.base import DeviceModel, item_embedding
from cdc_flower.seeds import torch_generator
from cdc_flower.strategies import GroupFineTuning, Persona
from cdc_flower.strategies.base import Cloud
from cdc_flower.training import cross_entropy

WIDTH, LENGTH = 8, 6
#: Items 1 and 2 are chosen from, 3 to 6 come last, and each cluster has five of its own.
CHOICES, LAST, FIRST_OF_CLUSTER, ITEMS_OF_CLUSTER = (1, 2), (3, 4, 5, 6), 7, 5
#: For each cluster, which choice follows each of the four last items. Over all clusters each is as likely.
FOLLOWS = np.array([[0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
NUM_CLUSTERS = len(FOLLOWS)
#: How often the other choice is made all the same. The best loss is the entropy of that, and of one head for all log 2.
NOISE = 0.1
ORACLE = float(-NOISE * np.log(NOISE) - (1 - NOISE) * np.log(1 - NOISE))
CHANCE = float(np.log(2))
TRAINING = {"epochs": 25, "rate": 0.02, "width": 16}


class LastItem(DeviceModel):
    """A device model that looks at the last item only: x is its embedding, and the score ``⟨x K + k, candidate⟩``."""

    def __init__(self) -> None:
        super().__init__(FIRST_OF_CLUSTER + NUM_CLUSTERS * ITEMS_OF_CLUSTER, WIDTH, LENGTH)
        self.head_sizes = ((WIDTH, WIDTH),)

    def init_static(self, generator: torch.Generator) -> Parameters:
        return {"embedding": 4.0 * item_embedding(generator, self.num_items, self.width)}

    def tabulate(self, parameters: Parameters) -> Parameters:
        return parameters

    def item_states(self, parameters: Parameters, history: Tensor) -> Tensor:
        return embed(parameters["embedding"], history)

    def encode(self, parameters: Parameters, history: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor | None]:
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
        self.history = np.column_stack([before, np.take(LAST, last)]).astype(np.int32)
        self.candidates = np.column_stack([np.take(CHOICES, choice), np.take(CHOICES, 1 - choice)]).astype(np.int32)

    def lagged(self, rows: np.ndarray, lag: np.ndarray) -> np.ndarray:
        return self.history[rows]


HELD_OUT = ClusteredOptimum(400, 2, is_shuffled=False)


def prepared(built: Any, is_shuffled: bool = False) -> Any:
    """A strategy after its training."""
    model = LastItem()
    parts = ClusteredOptimum(2000, 1, is_shuffled), ClusteredOptimum(400, 3, is_shuffled)
    built.prepare(Cloud(model, model.init(torch_generator(0, "model")), *parts, 0, batch_size=250))
    return built


def loss_on_devices(built: Any) -> float:
    """The held-out loss where each example is a device that reports its items and predicts with what it gets."""
    nodes = np.arange(2, 2 + HELD_OUT.num_examples)
    report = MessageBatch(
        records.TRAIN_REPORT, nodes, arrays={records.REPORT: {records.HISTORY: HELD_OUT.history}}, is_reply=True
    )
    model, parameters = built.cloud.model, dict(built.parameters)
    own = {name: torch.zeros(len(nodes), *shape) for name, shape in model.adaptive.items()}
    for down in built.answer(report):
        for name, value in own.items():
            value[np.asarray(down.node_ids, np.int64) - 2] = torch.tensor(down.array(records.PARAMETERS, name))
    history, candidates = (torch.from_numpy(ids).long() for ids in (HELD_OUT.history, HELD_OUT.candidates))
    logits = model.score({**parameters, **own}, history[:, None], candidates[:, None])
    return float(cross_entropy(logits).mean())


@pytest.fixture(scope="module")
def one() -> Persona:
    return prepared(Persona(num_prototypes=1, **TRAINING))  # type: ignore[arg-type]


def test_one_head_for_all_knows_nothing_however_long_it_is_trained() -> None:
    alone = prepared(GroupFineTuning(num_groups=1, **TRAINING))  # type: ignore[arg-type]
    assert loss_on_devices(alone) == pytest.approx(CHANCE, abs=0.03)


def test_edits_of_one_prototype_reach_the_best_head_of_every_cluster(one: Persona) -> None:
    assert ORACLE - 0.05 < loss_on_devices(one) < ORACLE + 0.05


def test_where_sequences_tell_nothing_it_falls_back_to_one_head_for_all() -> None:
    shuffled = prepared(Persona(num_prototypes=1, **TRAINING), is_shuffled=True)  # type: ignore[arg-type]
    assert loss_on_devices(shuffled) == pytest.approx(CHANCE, abs=0.05)
