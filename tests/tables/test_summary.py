"""The summary: ratios, intervals and pairs worked out by hand, and their coverage."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_cases import rows_with
from rich.console import Console

from cdc_flower.core.seeds import generator
from cdc_flower.tables import summary
from cdc_flower.tables.results import Results
from cdc_flower.tables.summary import (
    device_sums,
    estimate,
    paired_difference,
    rich_table,
    summarize,
    summary_columns,
    write_summary,
)


def frame_of(value_sum: Any, value_count: Any, **changes: Any) -> pd.DataFrame:
    """One metric on devices 0, 1, ... in one segment, with some arguments changed."""
    arguments: dict[str, Any] = {
        "run_id": "r",
        "experiment": "e",
        "strategy": "persona",
        "seed": 0,
        "task": "movies",
        "segment": 0,
        "time_s": 0.0,
        "device_id": np.arange(len(value_sum)),
        "metrics": ("ndcg@10",),
        "value_sum": np.array(value_sum, float).reshape(len(value_sum), -1),
        "value_count": np.array(value_count, float).reshape(len(value_sum), -1),
        "context_id": -1,
        "is_shift": False,
        "num_examples": 1,
        "num_labels": 0,
        "bytes_up": 0,
        "bytes_down": 0,
        "payload_bytes_up": 0,
        "payload_bytes_down": 0,
        "latency_s": np.nan,
        "staleness_s": 0.0,
        "compute_cloud_s": 0.0,
        "compute_device_s": 0.0,
    }
    return rows_with(**(arguments | changes))


def summary_of(frame: pd.DataFrame, baseline: str = "static") -> pd.DataFrame:
    return summarize(Results.of(frame), baseline)


BY_NAME = {"static": [0.1, 0.9], "duet": [0.3, 1.1], "persona": [0.4, 1.2]}


def joined(*frames: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True)


def test_the_value_is_a_ratio_of_sums_and_devices_are_its_clusters() -> None:
    # R = (1 + 2) / (2 + 8) = 0.3; e = (1 - 0.6, 2 - 2.4) / 10 = (0.04, -0.04); se = sqrt(2 / 1 * 2
    # * 0.0016) = 0.08
    row = summary_of(frame_of([1.0, 2.0], [2.0, 8.0])).iloc[0]
    assert row["mean"] == pytest.approx(0.3)
    assert row["low"] == pytest.approx(0.3 - 1.96 * 0.08)
    assert row["high"] == pytest.approx(0.3 + 1.96 * 0.08)
    assert (row["num_devices"], row["num_seeds"]) == (2, 1)


def test_segments_of_a_device_are_one_cluster_and_seeds_are_trainings() -> None:
    whole = summary_of(frame_of([1.0, 2.0], [2.0, 8.0])).iloc[0]
    parts = summary_of(
        joined(frame_of([0.5, 2.0], [1.0, 3.0]), frame_of([0.5, 0.0], [1.0, 5.0], segment=1))
    ).iloc[0]
    seeds = summary_of(
        joined(frame_of([0.5, 2.0], [1.0, 3.0]), frame_of([0.5, 0.0], [1.0, 5.0], seed=1))
    ).iloc[0]
    columns = ["mean", "low", "high"]
    assert parts[columns].tolist() == pytest.approx(whole[columns].tolist())
    assert seeds["mean"] == pytest.approx(0.3) and seeds["high"] > whole["high"]
    assert seeds["num_seeds"] == 2 and seeds["num_devices"] == 2


def test_with_equal_counts_the_interval_is_that_of_a_mean() -> None:
    values = [0.1, 0.5, 0.3, 0.9]
    row = summary_of(frame_of(values, [1.0] * 4)).iloc[0]
    assert row["high"] - row["mean"] == pytest.approx(1.96 * np.std(values, ddof=1) / 2)


def test_a_pair_cancels_what_its_devices_share() -> None:
    # Devices differ a lot, but persona is 0.1 better on the first and 0.3 on the second. Two
    # devices drawn anew are the first twice in a quarter of all draws, and the second twice in
    # another: the percentiles are 0.1 and 0.3.
    table = summary_of(
        joined(frame_of([0.1, 0.9], [1, 1], strategy="static"), frame_of([0.2, 1.2], [1, 1]))
    )
    row = table[table["strategy"] == "persona"].iloc[0]
    assert row["diff"] == pytest.approx(0.2)
    assert row["diff_low"] == pytest.approx(0.1)
    assert row["diff_high"] == pytest.approx(0.3)
    assert table.iloc[0]["strategy"] == "static" and table.iloc[0]["diff"] == 0


def test_a_pair_takes_only_devices_and_seeds_that_both_have() -> None:
    static = frame_of([0.1, 0.9, 0.0], [1, 1, 1], strategy="static")
    table = summary_of(
        joined(static, frame_of([0.2, 1.2], [1, 1]), frame_of([9.0, 9.0], [1, 1], seed=1))
    )
    assert table.iloc[1]["diff"] == pytest.approx(0.2)


def test_an_interval_of_one_seed_is_that_of_devices_drawn_anew_with_all_their_segments() -> None:
    rng = np.random.default_rng(0)
    num_devices, shape = 40, (2, 2, 40)  # segments, strategies, devices
    counts, values = rng.integers(1, 9, shape).astype(float), rng.random(shape)
    frames = [
        frame_of(values[row, k] * counts[row, k], counts[row, k], strategy=name, segment=row)
        for row in (0, 1)
        for k, name in enumerate(("static", "duet"))
    ]
    table = summary_of(joined(*frames))
    row = table[table["strategy"] == "duet"].iloc[0]

    drawn = generator(0, "bootstrap", num_devices).integers(num_devices, size=(1000, num_devices))
    sums, counts = (values * counts).sum(0)[:, drawn].sum(-1), counts.sum(0)[:, drawn].sum(-1)
    wanted = np.quantile(sums[1] / counts[1] - sums[0] / counts[0], (0.025, 0.975))
    assert row[["diff_low", "diff_high"]].tolist() == pytest.approx(wanted.tolist())


def test_groups_of_other_devices_are_resampled_for_themselves() -> None:
    rng = np.random.default_rng(0)
    parts = [frame_of(rng.random(30), np.ones(30), strategy=name) for name in ("static", "duet")]
    more = [part.assign(metric="auc", device_id=part["device_id"] + 7) for part in parts]
    alone, beside = summary_of(joined(*parts)), summary_of(joined(*parts, *more))
    for metric in ("ndcg@10", "auc"):
        columns = ["diff", "diff_low", "diff_high"]
        assert (
            beside.loc[beside["metric"] == metric, columns].to_numpy().tolist()
            == alone[columns].to_numpy().tolist()
        )


def test_many_devices_are_resampled_in_parts() -> None:
    rng = np.random.default_rng(0)
    num_devices, metrics = 6040, tuple(f"m{k}" for k in range(9))
    frames = [
        frame_of(
            rng.random((num_devices, 9)), np.ones((num_devices, 9)), strategy=name, metrics=metrics
        )
        for name in ("static", "duet")
    ]
    table = summary_of(joined(*frames))
    other = table[table["strategy"] != "static"]
    width = (other["diff_high"] - other["diff_low"]).to_numpy(float)
    assert width == pytest.approx(2 * 1.96 * np.sqrt(2 / 12 / num_devices), rel=0.15)


def test_another_strategy_can_be_the_baseline() -> None:
    frames = joined(*(frame_of(values, [1, 1], strategy=name) for name, values in BY_NAME.items()))
    table = summary_of(frames, baseline="duet")
    assert table["strategy"].tolist() == ["duet", "static", "persona"]
    assert table["baseline"].tolist() == ["duet"] * 3
    assert table["diff"].tolist() == pytest.approx([0.0, -0.2, 0.1])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(rich_table(table))
    assert "against duet on" in " ".join(console.export_text().split())


def test_metrics_that_are_estimated_at_once_are_as_each_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draws = generator(0, "metrics")
    frames = []
    for strategy, num_devices in (("static", 6), ("persona", 5), ("duet", 6)):
        counts = draws.integers(0, 3, (num_devices, 2))  # 0: the device lacks that metric
        sums = draws.random((num_devices, 2)) * counts
        names = ("ndcg@10", "auc")
        frames.append(frame_of(sums, counts, metrics=names, strategy=strategy))
    frames.append(frame_of([1.0, 2.0], [1, 2], metrics=("auc",), task="video"))
    whole = summary_of(joined(*frames))
    monkeypatch.setattr(summary, "_CELLS_AT_ONCE", 0)
    pd.testing.assert_frame_equal(whole, summary_of(joined(*frames)), rtol=1e-9)
    assert whole.groupby("metric").size().to_dict() == {"auc": 4, "ndcg@10": 3}


def test_without_static_the_difference_is_not_a_number() -> None:
    assert np.isnan(summary_of(frame_of([1.0, 2.0], [2.0, 8.0])).iloc[0]["diff"])


def test_costs_are_means_over_devices_of_a_whole_run_averaged_over_seeds() -> None:
    # Seed 0 sends 10 + 30 up in segment 0 and 10 + 10 in segment 1: 30 a device. Seed 1 sends 10:
    # mean 20.
    costs = {
        "metrics": ("a", "b"),
        "num_labels": 3,
        "bytes_down": 7,
        "payload_bytes_up": 2,
        "compute_cloud_s": 0.5,
    }
    parts = [
        frame_of(np.ones((2, 2)), np.ones((2, 2)), **costs, **changes)
        for changes in (
            {"bytes_up": np.array([10, 30]), "latency_s": np.array([1.0, np.nan])},
            {"bytes_up": 10, "segment": 1, "latency_s": np.array([2.0, 6.0])},
            {"bytes_up": 10, "seed": 1},
        )
    ]
    for _, row in summary_of(joined(*parts)).iterrows():
        assert row["bytes_up_per_device"] == 20
        assert row["bytes_down_per_device"] == pytest.approx((14 + 7) / 2)
        assert row["payload_bytes_up_per_device"] == pytest.approx((4 + 2) / 2)
        assert row["compute_cloud_s_per_device"] == pytest.approx((1.0 + 0.5) / 2)
        assert row["num_labels"] == pytest.approx((12 + 6) / 2)
        assert row["latency_s_median"] == 2.0
        assert row["staleness_s_median"] == 0.0


def test_runs_with_different_labels_are_kept_apart() -> None:
    table = summary_of(
        joined(frame_of([1.0], [2.0]).assign(run="4g"), frame_of([2.0], [2.0]).assign(run="wifi"))
    )
    assert table["run"].tolist() == ["4g", "wifi"]
    assert table["mean"].tolist() == [0.5, 1.0]


def test_one_device_nothing_counted_and_values_that_are_no_numbers_do_not_fail() -> None:
    assert np.isnan(summary_of(frame_of([1.0], [2.0])).iloc[0]["low"])
    nothing = summary_of(frame_of([0.0, 0.0], [0.0, 0.0])).iloc[0]
    assert np.isnan(nothing["mean"]) and nothing["num_devices"] == 0
    assert np.isnan(summary_of(frame_of([np.nan, 1.0], [1.0, 1.0])).iloc[0]["mean"])
    assert summary_of(frame_of([np.inf, 1.0], [1.0, 1.0])).iloc[0]["mean"] == np.inf
    empty = summary_of(frame_of([1.0], [1.0]).iloc[:0])
    assert empty.empty and tuple(empty.columns) == summary_columns()


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 9999))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = joined(
        *(
            frame_of(list(rng.random(5)), [2.0] * 5, strategy=name, segment=segment)
            for name in ("static", "duet")
            for segment in range(3)
        )
    )
    shuffled = frame.sample(frac=1.0, random_state=seed)
    columns = ["mean", "low", "high", "diff", "diff_low", "diff_high"]
    np.testing.assert_allclose(
        summary_of(shuffled)[columns], summary_of(frame)[columns], rtol=1e-9, atol=1e-12
    )


def test_intervals_cover_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    num_trials, num_devices = 400, 50
    skill = rng.normal(
        0.5, 0.1, (num_trials, num_devices)
    )  # devices differ, and so do their numbers of events
    counts = rng.integers(1, 15, (num_trials, num_devices)).astype(float)
    for gain in (0.0, 0.1):
        noise = rng.normal(0.0, 0.1, (2, num_trials, num_devices))
        sums = [
            pd.DataFrame(
                {
                    "trial": np.repeat(np.arange(num_trials), num_devices),
                    "device_id": np.tile(np.arange(num_devices), num_trials),
                    "seed": 0,
                    "strategy": name,
                    "value_sum": ((skill + extra + error) * counts).ravel(),
                    "value_count": counts.ravel(),
                }
            )
            for name, extra, error in (("static", 0.0, noise[0]), ("duet", gain, noise[1]))
        ]
        table = device_sums(joined(*sums), ["trial", "strategy"])
        values = estimate(table[table["strategy"] == "static"], ["trial"])
        pairs = paired_difference(table, ["trial"])
        pairs = pairs[pairs["strategy"] == "duet"]
        for found, truth in ((values, 0.5), (pairs, gain)):
            covered = ((found["low"] <= truth) & (truth <= found["high"])).mean()
            assert 0.91 <= covered <= 0.98
        assert (
            pairs["high"] - pairs["low"]
        ).mean() < 0.09  # unpaired, two intervals of 0.065 would add to 0.09


def test_the_summary_is_written_as_csv(tmp_path: Path) -> None:
    table = summary_of(frame_of([1.0, 2.0], [2.0, 8.0]))
    write_summary(table, tmp_path / "summary.csv")
    read = pd.read_csv(tmp_path / "summary.csv")
    assert tuple(read.columns) == summary_columns()
    assert read["mean"].tolist() == pytest.approx([0.3])


def test_the_terminal_table_fits_80_columns_and_shows_the_gain() -> None:
    frames = []
    for name, gain in (("static", 0.0), ("fine_tuning", 0.1)):
        values = np.full((3, 3), 0.3) + gain + np.arange(9).reshape(3, 3) / 100
        changes = {"metrics": ("auc", "ndcg@10", "hr@10"), "bytes_up": 123_456, "latency_s": 12.0}
        frames.append(frame_of(values, np.ones((3, 3)), strategy=name, **changes))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(rich_table(summary_of(joined(*frames))))
    text = console.export_text()
    assert "fine_tuning" in text and "+0.100 ±.000" in text and "12,000" in text and "…" not in text
