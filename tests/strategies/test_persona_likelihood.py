"""Persona's prototypes as heads of regimes: the likelihood of pairs, mixtures, and how heads are
found.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models import DIN, GRU4Rec
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.likelihood import Likelihood, Pairs
from cdc_flower.strategies.persona.mixing import Mixture, mixed, weights
from cdc_flower.strategies.persona.regimes import PastPairs, Search

NUM_ITEMS, LENGTH = 12, 2


def device_model(kind: type[DeviceModel] = GRU4Rec) -> tuple[DeviceModel, Parameters, Parameters]:
    """A model whose layers are as drawn, with its head."""
    model = kind(NUM_ITEMS, 16, LENGTH)
    parameters = model.init(torch_generator(0, "persona-test"))
    return model, parameters, {name: parameters[name] for name in model.adaptive}


def heads_of(head: Parameters, num_heads: int, spread: float = 0.3) -> Parameters:
    """Heads around one."""
    draws = torch_generator(1, "heads")
    return {
        name: value + spread * torch.empty(num_heads, *value.shape).normal_(generator=draws)
        for name, value in head.items()
    }


# Pairs.


def test_a_report_is_cut_into_pairs_of_what_was_before_and_what_followed() -> None:
    pairs = Pairs.of(np.array([[3, 5, 7, 2], [4, 6, 0, 0], [9, 0, 0, 0]], np.int32), 2)
    assert pairs.history[0].tolist() == [[3, 0], [3, 5], [5, 7]]
    assert pairs.target.tolist() == [[5, 7, 2], [6, 0, 0], [0, 0, 0]]
    assert pairs.history[1].tolist() == [[4, 0], [0, 0], [0, 0]]
    assert pairs.last(2).tolist() == [
        [False, True, True],
        [True, False, False],
        [False, False, False],
    ]


def test_the_newest_pairs_are_the_last_ones_of_each_report_whatever_its_length() -> None:
    pairs = Pairs.of(np.array([[3, 5, 7, 2], [4, 6, 8, 0], [9, 0, 0, 0]], np.int32), 2)
    newest = pairs.newest(2)
    assert newest.target.tolist() == [[7, 2], [6, 8], [0, 0]]
    assert newest.history[0].tolist() == [[3, 5], [5, 7]]
    assert pairs.newest(9).target.tolist() == pairs.target.tolist()


def test_reports_of_one_item_have_no_pair_and_mix_all_prototypes_alike() -> None:
    model, parameters, head = device_model()
    mixture = Mixture(Likelihood.of(model, parameters, 0), head, 9, 2.0, 0.0)
    pairs = mixture.pairs(np.array([[3], [0]], np.int32))
    assert torch.allclose(mixture.weights(heads_of(head, 3), pairs), torch.full((2, 3), 1 / 3))


# Likelihood.


@pytest.mark.parametrize("kind", [GRU4Rec, DIN])
def test_the_likelihood_of_a_pair_is_that_of_a_naive_loop(kind: type[DeviceModel]) -> None:
    model, parameters, head = device_model(kind)
    likelihood, heads = Likelihood.of(model, parameters, 0), heads_of(head, 3)
    reported = np.array([[3, 5, 7, 2], [4, 6, 0, 0]], np.int32)
    pairs = Pairs.of(reported, LENGTH)
    found = likelihood.of_reports(heads, pairs)
    assert likelihood.contrast.tolist() == list(range(1, NUM_ITEMS + 1))
    for device, place in np.argwhere(pairs.target.numpy() != 0):
        target = int(pairs.target[device, place])
        for index in range(3):
            whole = {**parameters, **{name: value[index] for name, value in heads.items()}}
            every = torch.arange(1, NUM_ITEMS + 1)
            scores = model.score(whole, pairs.history[device, place], every)
            expected = -torch.log_softmax(scores, 0)[target - 1]
            torch.testing.assert_close(
                found[device, place, index], expected.detach(), rtol=1e-4, atol=1e-5
            )
    assert not found[1, 1:].any()


def test_where_some_items_alone_are_told_from_the_item_itself_counts_once() -> None:
    model, parameters, head = device_model()
    whole = Likelihood.of(model, parameters, 0)
    few = Likelihood(model, whole.shared, torch.tensor([2, 5]), whole.targets[[1, 4]])
    history, target = torch.tensor([[3, 0]]), torch.tensor([5])
    scores = model.score(parameters, history[0], torch.tensor([2, 5]))
    torch.testing.assert_close(
        few.losses(history, target)(head), -torch.log_softmax(scores, 0)[1:], rtol=1e-4, atol=1e-5
    )


# Mixtures.


def test_sharpness_goes_from_the_mean_of_all_prototypes_to_the_best_one() -> None:
    evidence = torch.tensor([[3.0, 1.0, 2.0], [0.0, 0.0, 5.0]])
    assert torch.equal(weights(evidence, 0.0), torch.full((2, 3), 1 / 3))
    assert weights(evidence, float("inf")).tolist() == [[0, 1, 0], [1, 0, 0]]
    torch.testing.assert_close(
        weights(evidence, 1e3)[0], weights(evidence, float("inf"))[0], rtol=0, atol=1e-6
    )
    by_hand = np.exp([-2 * 3.0, -2 * 1.0, -2 * 2.0])
    np.testing.assert_allclose(weights(evidence, 2.0)[0], by_hand / by_hand.sum(), rtol=1e-5)


def test_a_hedge_of_one_gives_the_base_head_and_of_zero_leaves_it_out() -> None:
    _, _, head = device_model()
    heads, weight = heads_of(head, 2), torch.tensor([[0.25, 0.75]])
    for name, value in mixed(heads, weight, head, 1.0).items():
        torch.testing.assert_close(value[0], head[name], rtol=0, atol=0)
    for name, value in mixed(heads, weight, head, 0.0).items():
        expected = 0.25 * heads[name][0] + 0.75 * heads[name][1]
        torch.testing.assert_close(value[0], expected)
    for name, value in mixed(heads, weight, head, 0.5).items():
        expected = 0.5 * (0.25 * heads[name][0] + 0.75 * heads[name][1]) + 0.5 * head[name]
        torch.testing.assert_close(value[0], expected)


# Heads of regimes.


@dataclass
class TwoRegimes:
    """Devices that go through twelve items by one of two fixed permutations, and change it."""

    num_devices: int = 30
    num_events: int = 55
    change_at: int = 28

    def __post_init__(self) -> None:
        draws = np.random.default_rng(0)
        steps = np.stack([np.roll(np.arange(NUM_ITEMS), shift) for shift in (1, 5)])
        first = draws.integers(0, 2, self.num_devices)
        self.regime = np.empty((self.num_devices, self.num_events - 1), np.int64)
        items = np.empty((self.num_devices, self.num_events), np.int64)
        items[:, 0] = draws.integers(0, NUM_ITEMS, self.num_devices)
        for event in range(1, self.num_events):
            self.regime[:, event - 1] = first ^ (event >= self.change_at)
            items[:, event] = steps[self.regime[:, event - 1], items[:, event - 1]]
        self.items = items + 1

    @property
    def device(self) -> np.ndarray:
        return np.repeat(np.arange(self.num_devices), self.num_events - 1)

    @property
    def target(self) -> np.ndarray:
        return self.items[:, 1:].reshape(-1)

    def history(self, rows: np.ndarray | None = None) -> np.ndarray:
        before = np.stack([np.roll(self.items, 1, 1), self.items], -1)[:, :-1]
        before[:, 0] = before[:, 0, ::-1] * np.array([1, 0])
        return before.reshape(-1, 2)


def search(num_heads: int, rounds: int, seed: int = 0, rate: float = 0.02) -> Search:
    model, parameters, head = device_model()
    return Search(Likelihood.of(model, parameters, 0), head, num_heads, rounds, rate, 9, seed)


def test_windows_are_of_one_device_and_of_neighboring_pairs() -> None:
    past = TwoRegimes(num_devices=2, num_events=6)
    pairs = PastPairs.of(past)
    assert pairs.windows(3).tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert pairs.first.tolist() == [0] * 5 + [5] * 5
    assert len(pairs.of_first_devices(9)) == 5 and len(pairs.of_first_devices(1)) == 5
    assert pairs.of_first_devices(10) is pairs


def test_where_regimes_are_separable_every_window_goes_to_the_head_of_its_own() -> None:
    past = TwoRegimes()
    pairs, looking = PastPairs.of(past), search(2, 24)
    heads = looking.start()
    curve = looking.run(heads, pairs, lambda found: float(fit_of(looking, found, pairs).mean()))
    assert curve[-1] < 0.5 * curve[0]
    best = looking.likelihood.table(heads, pairs.history, pairs.target).argmin(1).numpy()
    regime = past.regime.reshape(-1)
    agree = (best == regime).mean()
    assert max(agree, 1 - agree) > 0.97


def fit_of(looking: Search, heads: Parameters, pairs: PastPairs) -> torch.Tensor:
    """The loss of each pair under the head that fits it best."""
    return looking.likelihood.table(heads, pairs.history, pairs.target).min(1).values


def test_heads_end_at_the_round_that_is_best_on_held_out_data_or_as_they_began() -> None:
    pairs, looking = PastPairs.of(TwoRegimes(num_devices=4)), search(2, 4)
    seen: list[Parameters] = []

    def held_out(heads: Parameters) -> float:
        seen.append({name: value.detach().clone() for name, value in heads.items()})
        return [3.0, 1.0, 2.0][len(seen) - 1]

    heads = looking.start()
    assert looking.run(heads, pairs, held_out) == [3.0, 1.0, 2.0]
    for name, value in heads.items():
        assert torch.equal(value, seen[1][name]) and not torch.equal(value, seen[2][name])
    worse, losses = looking.start(), iter([0.0, 1.0, 1.0])
    looking.run(worse, pairs, lambda _: next(losses))
    for name, value in worse.items():
        assert torch.equal(value, looking.start()[name])


def test_heads_are_the_same_for_a_seed_and_the_base_head_without_rounds() -> None:
    pairs = PastPairs.of(TwoRegimes(num_devices=4))
    found = []
    for seed in (0, 0, 1):
        looking = search(2, 2, seed)
        found.append(looking.start())
        looking.run(found[-1], pairs, lambda _: -float(pairs.target.sum()))
    name = "head.0.weight"
    assert torch.equal(found[0][name], found[1][name])
    assert not torch.equal(found[0][name], found[2][name])
    looking = search(3, 0)
    heads = looking.start()
    assert looking.run(heads, pairs, lambda _: 1.0) == [1.0]
    for name, value in heads.items():
        assert torch.equal(value, looking.start()[name])


def test_a_head_with_hardly_a_window_starts_anew_at_those_that_are_fitted_worst() -> None:
    looking = search(2, 2)
    leaves = {name: (value + 1).requires_grad_() for name, value in looking.start().items()}
    optimizer = torch.optim.Adam(list(leaves.values()), lr=0.1)
    sum(value.sum() for value in leaves.values()).backward()
    optimizer.step()
    head_of = np.zeros(6, np.int64)  # the second head has none
    fitted = torch.tensor([[1.0, 9], [2, 9], [8, 9], [3, 9], [7, 9], [1, 9]])
    looking._start_anew(leaves, optimizer, head_of, fitted, np.arange(6))
    assert head_of.tolist() == [0, 0, 1, 0, 1, 0]
    for name, value in leaves.items():
        assert torch.equal(value[1], looking.base[name])
        assert not torch.equal(value[0], looking.base[name])
        assert not optimizer.state[value]["exp_avg"][1].any()
