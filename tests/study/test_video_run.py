"""Runs on video, and a run of both tasks."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import initialize_config_module
from rich.console import Console
from run_cases import composed_of

from cdc_flower.core.errors import UserError
from cdc_flower.study import run as runs
from cdc_flower.study.companions import companions
from cdc_flower.study.setup import prepare, resolved
from cdc_flower.tasks.data import checked_data

SHARED = ["fleet.num_devices=4", "num_segments=2", "controls=false", "references=[]"]
SMALL = [
    *SHARED,
    "cloud.epochs=1",
    "data.clips_per_segment=3",
    "data.history_segments=2",
    "data.num_places=4",
    "model.width=16",
    "model.heads=2",
    "model.stem=16",
    "strategy.cdc_mmpg.epochs=1",
    "strategy.duet.epochs=1",
]


def config_of(*overrides: str) -> dict[str, Any]:
    return resolved(composed_of(*overrides))


def quiet() -> Console:
    return Console(file=io.StringIO(), width=120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "metric"), [("video_qa", "accuracy"), ("video_retrieval", "median_rank")]
)
def test_every_configured_strategy_plays_video(task: str, metric: str, tmp_path: Path) -> None:
    config = config_of(f"task={task}", *SMALL, f"out={tmp_path}/run")
    folder = runs.run(config, console=quiet())
    rows = pd.read_parquet(folder / "results.parquet")
    assert set(rows.task) == {task}
    assert set(rows.strategy) == set(config["strategies"]) and "cdc_mmpg" in config["strategies"]
    chosen = rows[rows.metric == metric]
    assert len(chosen) == 4 * 2 * len(config["strategies"]) and np.isfinite(chosen.value_sum).all()
    assert "cdc_mmpg" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_run_of_two_tasks_holds_both_and_prints_a_table_of_each(tmp_path: Path) -> None:
    first = config_of(
        *SHARED,
        "strategies=[static]",
        "cloud.epochs=1",
        "data=shifting_interests",
        "data.history_events=12",
        "data.num_items=40",
        "num_negatives=9",
        "report=false",
        f"out={tmp_path}/run",
    )
    first["also"] = [config_of("task=video_qa", *SMALL, "strategies=[static]")]
    console = quiet()
    rows = pd.read_parquet(runs.run(first, console=console) / "results.parquet")
    assert list(dict.fromkeys(rows.task)) == ["recommendation", "video_qa"]
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "ndcg@10" in text and "accuracy" in text


@pytest.mark.parametrize(
    ("overrides", "played"),
    [
        ([], ["video_qa"]),
        (["policy=never"], ["video_qa"]),
        (["report=false"], ["video_qa"]),
        (["conditions.loss=0.1", "protocol.codecs=[zstd]"], ["video_qa"]),
        (["strategies=[static]"], []),
        (["num_negatives=9"], []),
        (["references=[markov]"], []),
        (["model.width=16"], []),
        (["experiment=video_arms"], []),
    ],
)
def test_a_key_of_one_task_leaves_that_task_alone(overrides: list[str], played: list[str]) -> None:
    with initialize_config_module("cdc_flower.configs", version_base="1.3"):
        assert [config["task"] for config in companions(overrides)] == played


def test_without_a_key_of_one_task_all_tasks_are_played() -> None:
    with initialize_config_module("cdc_flower.configs", version_base="1.3"):
        also = companions(["seed=3", "fleet.num_devices=20", "network=3g"])
        assert [config["task"] for config in also] == ["video_qa"]
        assert (
            also[0]["seed"] == 3
            and also[0]["fleet"]["num_devices"] == 20
            and also[0]["network"]["name"] == "3g"
        )
        for override in (
            "task=recommendation",
            "data=shifting_interests",
            "strategies=[static]",
            "cloud.epochs=1",
        ):
            assert companions(["seed=3", override]) == []


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (
            ["data=shifting_interests"],
            "data must give clips with task=video_qa, such as moving_digits, .*; "
            "shifting_interests gives items",
        ),
        (
            ["model=gru4rec"],
            "model must be one that reads clips with task=video_qa, such as .*video_tiny; "
            "gru4rec reads items",
        ),
        (["+data.num_topics=3"], "data: unknown key 'num_topics'"),
        (["model.heads=5"], "model.heads must divide the width 48, got 5"),
        (["strategy.cdc_mmpg.arm=half"], "strategy.cdc_mmpg.arm must be one of full_clip"),
        (
            ["data=video_annotations", "data.format=next_qa", "data.annotations=x"],
            "one of data.features and data.videos",
        ),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_trained(
    overrides: list[str], rule: str
) -> None:
    with pytest.raises(UserError, match=rule):
        prepare(config_of("task=video_qa", *overrides))


@pytest.mark.parametrize("task", ["video_qa", "video_retrieval"])
@pytest.mark.parametrize("data", ["data=msvd", "data=video_annotations"])
def test_a_task_gives_real_videos_no_knob_of_the_embedded_ones(task: str, data: str) -> None:
    given = (
        ["data.root=x"] if data == "data=msvd" else ["data.format=next_qa", "data.annotations=x"]
    )
    given.append("data.features=x")
    checked_data(config_of(f"task={task}", data, *given)["data"])


def test_recommendation_refuses_cdc_mmpg_in_one_line(tmp_path: Path) -> None:
    config = config_of(
        *SHARED,
        "strategies=[cdc_mmpg]",
        "cloud.epochs=0",
        f"out={tmp_path}/x",
    )
    with pytest.raises(UserError, match="cdc_mmpg cannot play task=recommendation"):
        runs.run(config, console=quiet())


@pytest.mark.parametrize("name", ["video_arms", "video_variants", "video_labels"])
def test_every_arm_of_the_experiments_is_built(name: str) -> None:
    setup = prepare(config_of("task=video_qa", f"experiment={name}", *SHARED))
    assert (
        "static" in setup.strategies
        and "cdc_mmpg" in setup.strategies
        and len(setup.strategies) >= 9
    )
