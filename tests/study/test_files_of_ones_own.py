"""YAML files of a user's own, which name classes as the package's files name theirs."""

from pathlib import Path

import pytest
from plugin_cases import config_of, refusal, write

from cdc_flower.core.targets import TARGET
from cdc_flower.study.catalog import entries_of_group
from cdc_flower.study.nodes import node_options


@pytest.mark.parametrize("group", ["model", "network", "policy", "grid"])
def test_a_file_of_the_package_has_a_key_for_each_option_of_its_class(group: str) -> None:
    for name, entry in entries_of_group(group).items():
        # An option that is a mapping has its own keys in the file.
        keys = {option.name.partition(".")[0] for option in entry.options} | {"name"}
        node = {**dict.fromkeys(keys), "name": name}
        known = node_options(group, node).keys() - {TARGET, "traces"}  # objects are in no file
        assert known == keys, name


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
