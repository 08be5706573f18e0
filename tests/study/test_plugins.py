"""Plug-ins: modules that register classes, packages that are installed, and the page about them."""

import re
from pathlib import Path

import pytest
from plugin_cases import MODULES, command, config_of, nothing_stays, own_folder, refusal, write

from cdc_flower.study.arms import strategies_of
from cdc_flower.study.setup import prepare

pytestmark = pytest.mark.slow  # plays whole runs

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
