"""Names: those of run folders, of all that is in the catalog, and of every configuration."""

import re
from pathlib import Path

import pytest
from run_cases import composed_of

from cdc_flower.configs.methods import method_files
from cdc_flower.models import models
from cdc_flower.simulations.grids.kinds import grids
from cdc_flower.simulations.protocol.codecs import codecs
from cdc_flower.simulations.requests.policies import policies
from cdc_flower.strategies.registry import strategies
from cdc_flower.study.catalog import entries_of
from cdc_flower.study.command import folder_name
from cdc_flower.tasks.recommendation.references import references
from cdc_flower.tasks.registry import tasks

CONFIGS = Path(__file__).parents[1] / "cdc_flower" / "configs"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("cloud.rate=1", "cloud.rate=-1"),
        ("data.path=a/b", "data.path=a-b"),
        ("x=" + "1" * 150, "x=" + "1" * 151),
    ],
)
def test_two_runs_never_share_a_folder_because_a_name_cannot_hold_what_differs(
    first: str, second: str
) -> None:
    key = first.partition("=")[0]
    sweep = ["-m", f"{first},{second.partition('=')[2]}"]
    names = {folder_name([text], sweep) for text in (first, second)}
    assert len(names) == 2
    assert all(
        name.startswith(key) and len(name) < 128 and re.fullmatch(r"[A-Za-z0-9.-]+", name)
        for name in names
    )


def test_the_catalog_has_every_name_and_no_other() -> None:
    assert set(entries_of("strategies")) == set(strategies)
    assert set(models) == set(entries_of("models"))
    assert set(entries_of("policies")) == set(policies)
    assert set(entries_of("tasks")) == set(tasks)
    assert set(entries_of("grids")) == set(grids)
    assert set(entries_of("codecs")) == set(codecs)
    assert set(entries_of("references")) == set(references)
    for kind in ("strategies", "models", "networks", "data", "codecs", "references"):
        assert all(entry.summary and entry.commands for entry in entries_of(kind).values()), kind


def test_the_name_of_a_folder_is_made_of_what_differs_between_the_runs() -> None:
    overrides = ["seed=1", "network=lte", "out=a/b", "strategies=[static,duet]", "data.path=/c"]
    arguments = [
        "-m",
        "seed=0,1",
        "network=lte",
        "out=a/b",
        "strategies=[static,duet]",
        "data.path=/c",
    ]
    assert folder_name(overrides, arguments) == "seed-1"


def test_runs_over_several_lists_have_folders_of_their_own() -> None:
    arguments = [
        "-m",
        "strategies=[static,duet]",
        "protocol.codecs=[float16],[delta,zstd]",
        "conditions.rate_scale=1",
    ]
    runs = [
        [*arguments[1:2], f"protocol.codecs={codecs}", arguments[3]]
        for codecs in ("[float16]", "[delta,zstd]")
    ]
    first, second = (folder_name(run, arguments) for run in runs)
    assert first.startswith("protocol.codecs-float16-")
    assert second.startswith("protocol.codecs-delta-zstd-")


@pytest.mark.parametrize(
    "path",
    [*sorted(CONFIGS.glob("*/*.yaml")), *method_files().values()],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_every_choice_of_every_group_composes(path: Path) -> None:
    name = path.stem
    group = "strategy" if path in method_files().values() else path.parent.name
    override = f"strategy=[{name}]" if group == "strategy" else f"{group}={name}"
    config = composed_of(override)
    if group == "strategy":
        assert name in config["strategy"]
    elif group == "task":
        assert config["task"] == name
    else:
        assert group in ("experiment", "fleet") or "name" in config[group]
