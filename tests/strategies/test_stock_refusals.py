"""Configurations of Flower's own strategies are obeyed on devices, or refused in one sentence."""

from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, Strategy
from stock_cases import arrays_after, behind_links, flowers_class, stock
from tiny import Around, cloud, inline

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.deployment import deploy
from cdc_flower.simulations.grids.strategy import StrategyGrid
from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.strategies.base import OnDevices
from cdc_flower.strategies.fedavg.strategy import FedAvg as PackagesFedAvg
from cdc_flower.strategies.registry import build_class
from cdc_flower.strategies.stock import FederatedOnDevices, on_devices
from cdc_flower.strategies.stock_checks import REFUSED
from cdc_flower.study.rounds import RoundLoop

PATH = "flwr.serverapp.strategy."


def first_round(name: str, config: dict[str, Any], **settings: Any) -> Around:
    """What goes over the wire in a round with a configuration of the user's own."""
    built = stock(name, **settings)
    around, grid = behind_links(built)
    RoundLoop(
        built,
        grid,
        built.initial_arrays(),
        train_config=ConfigRecord(config),
    ).run(1)
    return around


def moved_by(around: Around) -> float:
    """How far devices went from what they were sent."""
    (sent,) = (batch for batch in around.sent if batch.message_type == "train")
    (replies,) = (r for r in around.replies if next(iter(r)).metadata.message_type == "train")
    return sum(
        float(np.abs(array.numpy() - sent.array("arrays", key)[0]).sum())
        for reply in replies
        for key, array in reply.content["arrays"].items()
    )


def test_a_configuration_is_obeyed_on_devices() -> None:
    usual = moved_by(first_round("FedAvg", {}))
    assert usual > 0
    assert moved_by(first_round("FedAvg", {"rate": 0.0})) == 0
    assert moved_by(first_round("FedAvg", {"steps": 0})) == 0
    assert moved_by(first_round("FedAvg", {"rate": 0.05, "steps": 2})) == usual
    sgd = {"optimizer": "sgd", "rate": 0.5, "steps": 5}
    assert moved_by(first_round("FedProx", sgd, proximal_mu=1.0)) < 0.9 * moved_by(
        first_round("FedProx", sgd, proximal_mu=0.0)
    )


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"lr": 0.1}, "config of train by FedAvg: unknown key 'lr'"),
        ({"local-epochs": 1}, "unknown key 'local-epochs'"),
        ({"num_negatives": 1}, "unknown key 'num_negatives'; did you mean 'num-negatives'"),
        ({"proximal_mu": 1.0}, "did you mean 'proximal-mu'"),
        ({"clipping_norm": 1.0}, "unknown key 'clipping_norm'"),
        ({"qffl": 0.1}, "unknown key 'qffl'"),
        ({"layers": "all"}, "layers must be head, as its arrays are, got all"),
        ({"rate": -1.0}, "rate must be >= 0, got -1"),
        ({"steps": 2.5}, "steps must be a whole number, got 2.5"),
        ({"optimizer": "adagrad"}, "optimizer must be one of adam, sgd"),
    ],
)
def test_a_configuration_that_devices_cannot_obey_is_refused_in_the_first_round(
    config: dict[str, Any], text: str
) -> None:
    with pytest.raises(UserError, match=text) as caught:
        first_round("FedAvg", config)
    assert "\n" not in str(caught.value)


def test_a_configuration_of_an_evaluation_is_refused_too() -> None:
    built = stock("FedAvg")
    _, grid = behind_links(built)
    loop = RoundLoop(
        built, grid, built.initial_arrays(), evaluate_config=ConfigRecord({"batch-size": 8})
    )
    with pytest.raises(UserError, match="config of evaluate by FedAvg: unknown key 'batch-size'"):
        loop.run(1)


def failing(nodes: set[int], message_type: str = "train", code: int = 2) -> Any:
    """Lets devices of these nodes answer with an error."""

    def fail(sent: Any, replies: Any) -> Any:
        bad = np.isin(np.asarray(sent.node_ids).astype(int), list(nodes))
        if sent.message_type != message_type or not bad.any():
            return replies
        errors = {row: (code, "no battery\nline 2") for row in range(bad.sum())}
        others = [reply for reply in replies if reply.metadata.src_node_id not in nodes]
        return [*others, *sent.select(bad).reply(errors=errors)]

    return fail


@pytest.mark.parametrize("message_type", ["train", "evaluate"])
def test_a_round_in_which_every_device_failed_is_no_silent_one(message_type: str) -> None:
    def played(*failure: Any) -> Any:
        built = stock("FedAvg")
        around, grid = behind_links(built)
        around.change = failing(*failure)
        return RoundLoop(built, grid, built.initial_arrays()).run(1)

    everyone = {2, 3, 4, 5}
    assert played({3}, message_type).arrays
    played(everyone, message_type, 5)  # nodes that are gone are no mistake of the user's
    text = "^FedAvg: devices must answer, and every one failed: no battery$"
    with pytest.raises(UserError, match=text):
        played(everyone, message_type)


def test_a_round_without_an_example_leaves_the_model_as_it_is() -> None:
    built = stock("FedAvg")
    around, grid = behind_links(built)

    def nothing(sent: Any, replies: Any) -> Any:
        for reply in (replies := list(replies)):
            for record in reply.content.metric_records.values():
                record["num-examples"] = 0
        return replies

    around.change = nothing
    result = RoundLoop(built, grid, built.initial_arrays()).run(2)
    assert result.arrays is None or not result.arrays


def test_one_that_makes_no_model_of_what_all_devices_sent_is_refused() -> None:
    built = stock("Bulyan", num_malicious_nodes=1)  # which needs seven devices
    with pytest.raises(
        UserError, match=r"Bulyan must make a model .* none of 4 in round 1, though all came"
    ):
        arrays_after(built, 1)


def test_what_flowers_strategies_raise_is_one_sentence() -> None:
    built = stock("QFedAvg")
    built.train_loss_key = "other"
    grid: Any = Around(inline())
    deploy(grid, stock("QFedAvg"))
    with pytest.raises(UserError, match="QFedAvg: Missing or invalid training loss"):
        built.start(StrategyGrid(grid), built.initial_arrays(), 1)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"fraction_evaluate": 0.5}, "fraction_evaluate of FedAdam must be 1, .* got 0.5"),
        ({"fraction_train": 1.5}, r"fraction_train of FedAdam must be in \[0, 1\], got 1.5"),
        ({"eta_l": 0.5}, "eta_l of FedAdam must be left out, .* rate does, got 0.5"),
        ({"etta": 0.5}, "unknown key 'etta'; did you mean 'eta'"),
        ({"eta": "fast"}, ".eta must be a number, got fast"),
        ({"step": 1}, "unknown key 'step'; did you mean 'steps'"),
        ({"steps": -1}, ".steps must be a whole number >= 0, got -1"),
        ({"arrayrecord_key": "model"}, "unknown key 'arrayrecord_key'"),
        ({"train_metrics_aggr_fn": "mean"}, "unknown key 'train_metrics_aggr_fn'"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_trained(
    settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(UserError, match=rf"^strategy\.x:? ?{text}"):
        build_class(FedAdam, settings, "strategy.x")


def test_names_on_the_wire_are_refused_where_devices_know_others() -> None:
    for key, value in {"weighted_by_key": "n", "arrayrecord_key": "m"}.items():
        with pytest.raises(UserError, match=f"{key} of FedAvg must be"):
            on_devices(FedAvg)(**{key: value})


def test_more_devices_than_there_are_are_not_waited_for() -> None:
    built = stock("FedAvg", min_train_nodes=5)
    with pytest.raises(UserError, match=r"min_train_nodes of FedAvg must be at most .*, 4, got 5"):
        arrays_after(built, 1)


@pytest.mark.parametrize("name", REFUSED)
def test_one_that_devices_cannot_play_is_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=rf"^strategy.x: {name} cannot be played, as it [^.\n]*$"):
        build_class(flowers_class(name), {}, "strategy.x")
    own = type("Own", (FederatedOnDevices, flowers_class(name)), {})
    with pytest.raises(UserError, match=r"^Own cannot be played"):
        own()


class Unseeded(OnDevices, FedAdam):
    """Behind the mix-in that does not seed."""


class OwnVerbs(OnDevices, Strategy):
    """Has verbs of its own alone."""


def test_draws_of_flowers_that_no_seed_would_reach_are_refused() -> None:
    text = "^Unseeded must have FederatedOnDevices in place of OnDevices, which .* FedAdam without"
    for kind in (Unseeded, type("Further", (Unseeded,), {})):
        with pytest.raises(UserError, match=text.replace("Unseeded", kind.__name__)):
            on_devices(kind)
    for kind in (OwnVerbs, PackagesFedAvg, type("Own", (FederatedOnDevices, FedAdam), {})):
        assert on_devices(kind) is kind


def test_what_is_none_of_flowers_strategies_is_refused() -> None:
    for kind in (dict, Codecs):
        with pytest.raises(
            UserError, match=f"strategy.x: a strategy must derive .*{kind.__name__}"
        ):
            build_class(kind, {}, "strategy.x")


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ({"_target_": "flwr.serverapp.strategy.FedAvgg"}, "_target_ must be importable, got flwr"),
        ({"_target_": "pathlib.Path"}, "must name a strategy of Flower's, got 'pathlib.Path'"),
        ({"proximal_mu": 0.1}, "_target_ must name a strategy of Flower's, got"),
        ({"_target_": f"{PATH}FedProx", "proximal": 0.1}, "unknown key 'proximal'; did you mean"),
        ({"_target_": f"{PATH}FedXgbCyclic"}, "FedXgbCyclic cannot be played"),
        ({"_target_": f"{PATH}FedAvg", "fraction_evaluate": 0.5}, "fraction_evaluate of FedAvg"),
    ],
)
def test_a_wrong_strategy_inside_another_is_refused(inside: dict[str, Any], text: str) -> None:
    given = {"noise_multiplier": 0.0, "clipping_norm": 1.0, "num_sampled_clients": 4}
    kind = flowers_class("DifferentialPrivacyServerSideFixedClipping")
    with pytest.raises(UserError, match=rf"^strategy\.dp.*{text}"):
        build_class(kind, {**given, "strategy": inside}, "strategy.dp")


class Every2nd(FedAvg):
    """Evaluates on every second device."""

    def configure_evaluate(self, *arguments: Any) -> Any:
        return list(super().configure_evaluate(*arguments))[::2]


def test_a_strategy_that_leaves_devices_out_is_refused() -> None:
    built: Any = build_class(Every2nd, {}, "strategy.x")
    built.prepare(cloud())
    with pytest.raises(UserError, match=r"Every2nd must evaluate on every device, .* got 2 of 4"):
        arrays_after(built, 1)
