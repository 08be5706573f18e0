"""Classes of a user's own: by their path, by a YAML file, by a decorator in a plug-in."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hydra.core.singleton import Singleton
from plugin_cases import MODULES, SMALL, config_of, nothing_stays, own_folder

from cdc_flower.cli import main
from cdc_flower.configs import find_methods
from cdc_flower.core.errors import UserError
from cdc_flower.core.options import options_of
from cdc_flower.core.targets import TARGET
from cdc_flower.simulations.requests.setup import policy_of, requests_of
from cdc_flower.study.arms import strategies_of
from cdc_flower.study.catalog import entries_of_group
from cdc_flower.study.composing import hydra_at
from cdc_flower.study.fleet_setup import network_of
from cdc_flower.study.keys import check_overrides
from cdc_flower.study.nodes import node_options
from cdc_flower.study.setup import prepare

MEAN_POOL = "+model._target_=own_model.MeanPool"
NUDGE = "+strategy.nudge._target_=own_strategy.Nudge"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_folder(tmp_path, monkeypatch):
        yield tmp_path


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of ``cdc-flower`` in this process."""
    state = Singleton.get_state()
    monkeypatch.setattr(sys, "argv", ["cdc-flower", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        Singleton.set_state(state)
        find_methods()
    return 0


def refusal(*overrides: str, config_dir: Path | None = None) -> str:
    """The sentence with which a command line is refused, before data are read."""
    with pytest.raises(UserError) as caught:
        config_of(*overrides, config_dir=config_dir)
    text = str(caught.value)
    assert "\n" not in text
    return text


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


@pytest.mark.parametrize("group", ["model", "network", "policy", "grid"])
def test_a_file_of_the_package_has_a_key_for_each_option_of_its_class(group: str) -> None:
    for name, entry in entries_of_group(group).items():
        # An option that is a mapping has its own keys in the file.
        keys = {option.name.partition(".")[0] for option in entry.options} | {"name"}
        node = {**dict.fromkeys(keys), "name": name}
        known = node_options(group, node).keys() - {TARGET, "traces"}  # objects are in no file
        assert known == keys, name


def write(folder: Path, files: dict[str, str]) -> Path:
    """Writes YAML files into a folder for ``--config-dir``."""
    for name, text in files.items():
        path = folder / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "configs"


def test_files_of_a_folder_name_classes_as_the_packages_own_name_theirs(folder: Path) -> None:
    configs = write(
        folder,
        {
            "strategy/nudge": (
                "# @package strategy.nudge\n_target_: own_strategy.Nudge\nrate: 0.7\n"
            ),
            "model/mine": "_target_: own_model.MeanPool\nwidth: 8\n",
            "network/thin": "_target_: own_world.Slow\nname: thin\nrate_bps: 9\n",
            "data/mine": "_target_: own_world.Mine\nnum_items: 50\n",
        },
    )
    chosen = ["strategies=[nudge]", "model=mine", "network=thin", "data=mine", "+model.depth=3"]
    chosen.append("strategy.nudge.rate=2")
    config = config_of(*chosen, config_dir=configs)
    assert config["model"] == {
        "_target_": "own_model.MeanPool",
        "name": "mean_pool",
        "width": 8,
        "depth": 3,
    }
    assert config["network"]["name"] == "thin" and config["data"]["num_items"] == 50
    assert config["strategy"]["nudge"] == {"_target_": "own_strategy.Nudge", "rate": 2.0}


def test_a_key_of_a_file_that_its_class_lacks_is_refused(folder: Path) -> None:
    configs = write(folder, {"model/mine": "_target_: own_model.MeanPool\nwidht: 8\n"})
    text = refusal("model=mine", config_dir=configs)
    assert text.startswith("model.widht is no key of own_model.MeanPool; did you mean width?")


def test_a_file_of_a_strategy_without_its_header_is_told_so(folder: Path) -> None:
    configs = write(folder, {"strategy/nudge": "_target_: own_strategy.Nudge\n"})
    assert refusal("strategies=[nudge]", config_dir=configs) == (
        "strategy._target_ belongs to no strategy; a file of one must begin with "
        "'# @package strategy.NAME'"
    )


def test_a_profile_of_ones_own_may_leave_out_options_of_its_class(folder: Path) -> None:
    configs = write(folder, {"network/mine": "name: mine\npath: x\n"})
    config = config_of("network=mine", "+network.part=tune", config_dir=configs)
    assert config["network"]["part"] == "tune"
    text = refusal("network=mine", "+network.prt=tune", config_dir=configs)
    assert "network.prt is no key of network=mine; did you mean part?" in text


BY_NAME = ["plugins=[own_plugin]", "strategies=[nudge]", "model=mean_pool", "network=slow"]
BY_NAME += ["policy=every_other", "data=mine"]


def test_what_a_plug_in_registers_is_chosen_by_its_name_with_its_defaults(folder: Path) -> None:
    changes = ["model.depth=3", "network.rate_bps=9", "+strategy.nudge.rate=0.7", "policy.first=1"]
    config = config_of(*BY_NAME, *changes)
    assert config["model"] == {"name": "mean_pool", "width": 16, "depth": 3}
    assert config["network"] == {"name": "slow", "rate_bps": 9.0}
    assert config["policy"] == {"name": "every_other", "first": 1}
    assert config["data"]["name"] == "mine"
    (nudge,) = strategies_of(config).values()
    assert nudge.rate == 0.7  # type: ignore[attr-defined]
    assert type(prepare({**config, "strategies": ["nudge"]}).model).__name__ == "MeanPool"


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["+model.depht=1"], "model.depht is no key of model=mean_pool; did you mean depth?"),
        (["+strategy.nudge.rat=1"], "strategy.nudge.rat is no key of strategy.nudge; did you mean"),
        (["+strategy.arm={method: nudge, rat: 1}"], "strategy.arm.rat is no key of strategy.arm"),
        (["model=mean_pol"], "unknown choice of model 'mean_pol'; did you mean 'mean_pool'?"),
    ],
)
def test_a_key_that_a_registered_class_lacks_is_refused(
    overrides: list[str], text: str, folder: Path
) -> None:
    assert text in refusal(*BY_NAME, *overrides)


def test_plug_ins_may_be_named_in_a_root_file_or_an_experiment(folder: Path) -> None:
    root = "defaults: [config, _self_]\nplugins: [own_plugin]\nstrategies: [nudge]\n"
    header = "# @package _global_\n"
    experiment = "defaults:\n  - override /model: mean_pool\nplugins: [own_plugin]\n"
    configs = write(folder, {"mine": root, "experiment/pooled": header + experiment})
    config = config_of("model=mean_pool", config_dir=configs, config_name="mine")
    assert config["plugins"] == ("own_plugin",) and config["model"]["name"] == "mean_pool"
    assert config_of("experiment=pooled", config_dir=configs)["model"]["name"] == "mean_pool"


TASK = """
import own_task

own_task.register()
"""


def test_a_registered_task_is_chosen_with_the_data_and_the_model_that_alone_fit(
    folder: Path,
) -> None:
    (folder / "own_game.py").write_text(TASK)
    config = config_of("plugins=[own_game]", "task=even_or_odd", "strategies=[static]")
    assert config["task"] == "even_or_odd"
    assert config["data"]["name"] == "numbers" and config["model"]["name"] == "parity"
    assert prepare(config).stream.num_segments == 8
    text = refusal("plugins=[own_game]", "task=even_or_odd", "model=gru4rec")
    assert text.startswith("model must be one that reads numbers with task=even_or_odd, such as pa")


POINTS = """
[cdc_flower.strategies]
nudge = own_strategy:Nudge
[cdc_flower.models]
pooled = own_model:MeanPool
[cdc_flower.networks]
thin = own_world:Slow
[cdc_flower.policies]
every_other = own_world:Always
[cdc_flower.data]
mine = own_world:Mine
[cdc_flower.codecs]
half = own_codec:Half
"""
CODEC = '''
import numpy as np
from cdc_flower.simulations.protocol.codecs import ArrayCodec


class Half(ArrayCodec):
    """Sends zeros."""

    stage = "numbers"
    is_lossy = True

    def encode(self, value, about):
        return value.astype(np.float16), {}

    def decode(self, value, about):
        return value.astype(np.float32)
'''


def test_an_installed_package_is_chosen_from_without_a_word_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "own-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (tmp_path / "own_codec.py").write_text(CODEC)
    with own_folder(tmp_path, monkeypatch), nothing_stays(tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(str(tmp_path))
        _look_again(monkeypatch)
        config = config_of(
            "strategies=[nudge]",
            "+strategy.nudge.rate=3",
            "model=pooled",
            "model.depth=2",
            "network=thin",
            "policy=every_other",
            "data=mine",
            "protocol.codecs=[half]",
        )
        assert config["model"] == {"name": "pooled", "width": 16, "depth": 2}
        assert config["network"]["name"] == "thin" and config["policy"]["name"] == "every_other"
        setup = prepare(config)
        assert type(setup.strategies["nudge"]).__module__ == "own_strategy"
        assert type(setup.model).__name__ == "MeanPool"


def _look_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets registries look for entry points again."""
    import pkgutil

    from cdc_flower.study import plugins

    for path in plugins.REGISTRIES.values():
        monkeypatch.setattr(pkgutil.resolve_name(path), "_is_complete", False)


def test_names_of_plug_ins_are_listed_and_explained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "list", "models", "--plugin", "own_plugin") == 0
    out = capfd.readouterr().out
    assert "mean_pool" in out and "Takes the mean of the items of the history." in out
    assert command(monkeypatch, "describe", "nudge", "--plugin", "own_plugin") == 0
    out = capfd.readouterr().out
    assert "strategies=[static,nudge]" in out and "rate" in out and "0.1" in out
    assert command(monkeypatch, "list", "--plugin", "own_plugn") == 2
    assert "plugins: there is no module own_plugn" in capfd.readouterr().err


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


def test_every_command_of_the_page_names_what_there_is(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(# my_module.*?)```", page, re.DOTALL)
    names = "MyData, MyLink, MyPolicy = Mine, Slow, Always\n"
    own = [*blocks, MODULES["own_model"], MODULES["own_world"], names]
    (folder / "my_module.py").write_text("\n".join(own))
    (folder / "my_plugin.py").write_text(MODULES["own_plugin"])
    for path, text in re.findall(r"```yaml\n# my_configs/(\S+).yaml\n(.*?)```", page, re.DOTALL):
        configs = write(folder, {path: text})
    lines = re.findall(r"^cdc-flower (?!list|describe)(.*)$", page, re.MULTILINE)
    assert len(lines) == 5 and len(blocks) == 1
    for line in lines:
        given = line.removeprefix("--config-dir my_configs ")
        config_of(*given.split(), config_dir=None if given == line else configs)
