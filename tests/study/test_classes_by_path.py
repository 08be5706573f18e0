"""Classes of a user's own by their path: played, named, and refused in one sentence."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from plugin_cases import MEAN_POOL, NUDGE, SMALL, command, config_of, refusal, write

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import options_of
from cdc_flower.core.targets import TARGET
from cdc_flower.simulations.requests.setup import policy_of, requests_of
from cdc_flower.study.arms import strategies_of
from cdc_flower.study.composing import hydra_at
from cdc_flower.study.fleet_setup import network_of
from cdc_flower.study.keys import check_overrides
from cdc_flower.study.nodes import node_options
from cdc_flower.study.setup import prepare

pytestmark = pytest.mark.slow  # plays whole runs


def test_the_model_that_a_path_names_is_played_and_named_in_the_results(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["strategies=[static,nudge]", NUDGE, "+strategy.nudge.rate=0.5", MEAN_POOL]
    assert command(monkeypatch, *own, "+model.depth=2", "out=own", *SMALL) == 0

    config = yaml.safe_load((folder / "own" / "config.yaml").read_text())
    assert config["model"] == {
        "_target_": "own_model.MeanPool",
        "name": "mean_pool",
        "width": 16,  # of the class, not of the file whose place it takes
        "depth": 2,
    }
    assert sys.modules["own_model"].MeanPool.encoded > 0
    table = pd.read_parquet(folder / "own" / "results.parquet").set_index("strategy")["value_sum"]
    assert (table["nudge"].to_numpy() != table["static"].to_numpy()).any()


def test_a_mistake_in_a_path_ends_the_command_with_2_and_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code = command(monkeypatch, "+model._target_=own_model.MeanPol", "out=run", *SMALL)
    assert code == 2 and not (folder / "run").exists()
    assert capfd.readouterr().err == (
        "cdc-flower: model._target_: unknown name of own_model 'MeanPol'; did you mean "
        "'MeanPool'? (known: MeanPool)\n"
    )


#: Class of a group -> how the sentence goes on after the key.
NO_CLASS = {
    "model=own_modl.MeanPool": ": there is no module own_modl in ",
    "model=MeanPool": " must be MODULE.NAME, such as my_module.Mine, got MeanPool",
    "model=broken.MeanPool": ": broken must be importable, got ZeroDivisionError: division by zero",
    "model=own_strategy.Nudge": (
        " must be a class that derives from DeviceModel or torch.nn.Module, or a function that "
        "makes one, got own_strategy.Nudge"
    ),
    "model=own_world.Items": ": own_world.Items must take num_items, which the data give; its clas",
    "network=own_world.Frame": " must be a class with a method network, got own_world.Frame",
    "policy=own_world.Undecided": ": own_world.Undecided must define decide",
    "policy=own_world.Slow": " must be a class that derives from Policy, got own_world.Slow",
    "policy=own_world.Positions": ": Positions must take first by name, not by position only",
    "data=own_world.Unsaid": ": own_world.Unsaid must have the class attribute gives, such as 'cli",
    "data=own_world.Missaid": ": own_world.Missaid.gives must be a text, got 3",
    "data=own_world.Slow": " must be a class with a method stream, got own_world.Slow",
    "grid=own_world.Slow": " must be a class with a method grid, got own_world.Slow",
    "grid=own_world.NUMBER": " must be a class with a method grid, got 3",
}


@pytest.mark.parametrize("named", NO_CLASS)
def test_what_is_no_class_of_the_kind_is_refused_in_one_sentence(named: str, folder: Path) -> None:
    group, _, path = named.partition("=")
    with pytest.raises(UserError) as caught:
        node_options(group, {TARGET: path})
    text = str(caught.value)
    assert text.startswith(f"{group}.{TARGET}{NO_CLASS[named]}") and "\n" not in text


def test_the_nearest_name_of_a_package_that_imports_its_names_is_told(folder: Path) -> None:
    path = "flwr.serverapp.strategy.FedMedain"
    text = refusal("strategies=[x]", f"+strategy.x._target_={path}")
    assert "did you mean 'FedMedian'?" in text


def test_the_nearest_module_of_the_folder_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match=r"nor among the installed ones; did you mean own_model\?$"):
        node_options("model", {TARGET: "own_modl.MeanPool"})


#: Settings of strategies -> the sentence.
NO_STRATEGY: dict[str, dict[str, Any]] = {
    "strategy.nudge._target_ must be a class that derives from a strategy of Flower's": {
        "nudge": {TARGET: "own_strategy.Plain"}
    },
    "strategy.nudge._target_: there is no module no in ": {"nudge": {TARGET: "no.Nudge"}},
    "strategy.nudge must have a method or a _target_, got both": {
        "nudge": {TARGET: "own_strategy.Nudge", "method": "duet"}
    },
    "strategy.duet._target_ must stand under a name of its own, since duet is a method already": {
        "duet": {TARGET: "own_strategy.Nudge"}
    },
    "strategy.nudge.rate must be a number, got x": {
        "nudge": {TARGET: "own_strategy.Nudge", "rate": "x"}
    },
    "strategy.nudge: unknown key 'rat'; did you mean 'rate'?": {
        "nudge": {TARGET: "own_strategy.Nudge", "rat": 1}
    },
}


@pytest.mark.parametrize("text", NO_STRATEGY)
def test_what_is_no_strategy_is_refused_in_one_sentence(text: str, folder: Path) -> None:
    settings = NO_STRATEGY[text]
    with pytest.raises(UserError) as caught:
        strategies_of({"strategies": list(settings), "strategy": settings})
    assert str(caught.value).startswith(text)


#: Command line -> part of the sentence.
REFUSED = {
    f"{MEAN_POOL} +model.depht=1": (
        "model.depht is no key of own_model.MeanPool; did you mean depth? "
        "(known: depth, name, width)"
    ),
    f"{MEAN_POOL} +model.depth=x": "model.depth must be a whole number, got x",
    f"{MEAN_POOL} model.history_length=10": "model.history_length is no key of own_model.MeanPool",
    f"{NUDGE} +strategy.nudge.rat=1": "strategy.nudge.rat is no key of own_strategy.Nudge; did you",
    f"{NUDGE} +strategy.arm.method=nudge +strategy.arm.rat=1": "strategy.arm.rat is no key of",
    "+fleet._target_=own_world.Slow": "fleet._target_ is no key of fleet=phones",
    "plugins=[own_plugn]": "plugins: there is no module own_plugn in ",
    "plugins=own_plugin": "plugins must be a list of modules, such as [my_module], got own_plugin",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_a_key_that_the_class_lacks_is_refused_in_one_sentence(
    overrides: str, folder: Path
) -> None:
    assert REFUSED[overrides] in refusal(*overrides.split(" "))


def test_a_key_that_one_class_of_a_sweep_lacks_is_refused(folder: Path) -> None:
    paths = "own_model.MeanPool,cdc_flower.models.gru4rec.GRU4Rec"
    with (
        hydra_at(),
        pytest.raises(UserError, match=r"model\.depth is no key of cdc_flower\.models"),
    ):
        check_overrides([f"+model._target_={paths}", "+model.depth=2"], several=True)


def test_every_part_of_a_run_can_be_a_class_of_ones_own(folder: Path) -> None:
    config = config_of(
        *SMALL[:-3],
        "strategies=[nudge,harder]",
        NUDGE,
        "+strategy.harder={method: nudge, rate: 2}",
        MEAN_POOL,
        "+network._target_=own_world.Slow",
        "+network.rate_bps=50",
        "+policy._target_=own_world.Always",
        "+policy.first=1",
        "+data._target_=own_world.Mine",
        "data.num_items=40",
    )
    setup = prepare(config)
    assert type(setup.model).__name__ == "MeanPool" and setup.model.width == 16
    assert [strategy.rate for strategy in setup.strategies.values()] == [0.1, 2.0]  # type: ignore[attr-defined]
    assert setup.fleet.rate_up_bps.tolist() == [50.0] * 4
    assert network_of(config["network"]).name == "slow"
    assert type(policy_of(config["policy"])).__module__ == "own_world"
    names = {group: config[group]["name"] for group in ("model", "network", "policy", "data")}
    assert names == {
        "model": "mean_pool",
        "network": "slow",
        "policy": "own_world.Always",  # always is another one
        "data": "mine",
    }


@pytest.mark.parametrize("sign", ["", "+", "++"])
@pytest.mark.parametrize("key", ["width", "depth"])  # the replaced file has one of them
def test_keys_of_a_class_are_written_with_a_plus_or_without(
    key: str, sign: str, folder: Path
) -> None:
    assert config_of(MEAN_POOL, f"{sign}model.{key}=8")["model"][key] == 8


def test_a_value_that_the_user_gives_reaches_the_class_though_the_file_has_it_too(
    folder: Path,
) -> None:
    assert config_of(MEAN_POOL, "model.width=32")["model"]["width"] == 32
    configs = write(
        folder, {"experiment/own": "# @package _global_\nmodel: {width: 9}\nexperiment_name: own\n"}
    )
    found = config_of(MEAN_POOL, "experiment=own", config_dir=configs)
    assert found["model"]["width"] == 9


def test_a_policy_of_ones_own_is_asked_whatever_its_name(folder: Path) -> None:
    unused: Any = None
    node = {TARGET: "own_world.Odd", "name": "always"}
    requests = requests_of(node, unused, unused, unused, unused)
    assert type(requests.policy).__module__ == "own_world"


def test_options_are_those_of_the_constructor_that_is_called(folder: Path) -> None:
    import importlib

    sys.path.insert(0, str(folder))
    world = importlib.import_module("own_world")
    assert list(options_of(world.Always)) == ["first"]  # it derives from a dataclass
    assert list(options_of(world.Mine))[:2] == list(options_of(world.InterestsOptions))[:2]

    def make(num_items: int, depth: int = 2) -> None: ...

    assert [(each.name, each.kind) for each in options_of(make).values()] == [
        ("num_items", int),
        ("depth", int),
    ]
