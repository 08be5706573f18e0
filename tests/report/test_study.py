"""The study of thin links, on results made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from result_cases import rows_with

from cdc_flower.core.errors import UserError
from cdc_flower.report.drawing.plain_markdown import to_html
from cdc_flower.report.study.narrative import summary_of
from cdc_flower.report.study.page import write_stress
from cdc_flower.report.study.table import Study, crossings, half_gain, pareto, read_study
from cdc_flower.tables.long_table import ResultsWriter


def run_folder(
    folder: Path, strategies: dict[str, float], rate_bps: float, seed: int = 0, **config
) -> Path:
    """A run of 20 devices and 2 segments in which each strategy is right so often."""
    folder.mkdir(parents=True)
    with ResultsWriter(folder / "results.parquet") as writer:
        for name, value in strategies.items():
            quiet = name == "static"
            for segment in range(2):
                writer.append(
                    rows_with(
                        **{"run_id": folder.name, "experiment": "bandwidth_stress", "task": "t"},
                        **{
                            "strategy": name,
                            "seed": seed,
                            "segment": segment,
                            "time_s": 10.0 * segment,
                        },
                        device_id=np.arange(20),
                        metrics=("ndcg@10",),
                        value_sum=10 * value + 0.1 * np.arange(20)[:, None],
                        value_count=np.full((20, 1), 10.0),
                        **{
                            "context_id": -1,
                            "is_shift": False,
                            "num_examples": 10,
                            "num_labels": 0,
                        },
                        **{"bytes_up": 0 if quiet else 100, "bytes_down": 0 if quiet else 900},
                        **{
                            "payload_bytes_up": 0,
                            "payload_bytes_down": 0,
                            "compute_cloud_s": 0,
                            "compute_device_s": 0,
                        },
                        latency_s=np.nan if quiet else 1e4 / rate_bps,
                        **{
                            "staleness_s": 1.0,
                            "num_late": 0 if quiet else 1,
                            "num_reports": 0 if quiet else 1,
                        },
                    )
                )
    neutral = {"rate_scale": 1.0, "loss": 0.0, "ttl_s": None}
    whole = {
        "data": {"name": "d"},
        "network": {"name": config.get("network", "n")},
        "conditions": {**neutral, "rate_scale": config.get("scale", 1.0)},
        "protocol": {"codecs": config.get("codecs", [])},
        "policy": config.get("policy", {"name": "always"}),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(whole))
    (folder / "links.yaml").write_text(yaml.safe_dump({"median_rate_up_bps": rate_bps}))
    return folder


def study_folders(tmp_path: Path) -> list[Path]:
    """static .50; duet .50, .52, .60 and fedavg .53, .53, .53 at 1, 10, 100 kbit/s."""
    folders = [run_folder(tmp_path / "s", {"static": 0.5}, np.inf, network="unlimited")]
    for k, value in enumerate((0.5, 0.52, 0.6)):
        values = {"duet": value, "fedavg": 0.53}
        folders.append(
            run_folder(tmp_path / f"{k}", values, 10.0 ** (3 + k), scale=10.0 ** (k - 2))
        )
    some = {"name": "random", "rate": 0.1}
    folders.append(run_folder(tmp_path / "p", {"duet": 0.51}, 1e5, policy=some))
    folders.append(run_folder(tmp_path / "c", {"duet": 0.59}, 1e5, codecs=["float16"]))
    return folders


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return read_study(study_folders(tmp_path_factory.mktemp("study")), "ndcg@10")


def test_two_methods_cross_where_their_lines_do_on_the_logarithm_of_the_rate(study: Study) -> None:
    found = {(one.below, one.above): one.rate_bps for one in crossings(study)}
    # duet passes fedavg an eighth of the way from 10 to 100 kbit/s: (.53 - .52) / (.60 - .52)
    assert found == {("fedavg", "duet"): pytest.approx(10 ** (4 + 1 / 8))}


def test_what_intervals_do_not_tell_apart_does_not_cross(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path / "s", {"static": 0.5}, np.inf, network="unlimited")]
    for k, value in enumerate((0.52, 0.54)):
        values = {"duet": value, "fedavg": 0.53}
        folders.append(
            run_folder(tmp_path / f"{k}", values, 10.0 ** (3 + k), scale=10.0 ** (k - 2))
        )
    study = read_study(folders, "ndcg@10")
    assert len(crossings(study)) == 1
    wide = study.table.assign(gain_low=study.table.gain - 0.02, gain_high=study.table.gain + 0.02)
    assert not crossings(replace(study, table=wide))


def test_each_threshold_of_a_detector_is_a_condition(tmp_path: Path) -> None:
    drift = {"name": "on_drift", "detector": "page_hinkley", "delta": 0.05}
    folders = [
        run_folder(
            tmp_path / f"{k}", {"duet": 0.5 + k / 10}, 1e4, policy={**drift, "threshold": 2.0 + k}
        )
        for k in range(2)
    ]
    adwin = {**drift, "detector": "adwin", "threshold": 1.0}
    folders.append(run_folder(tmp_path / "a", {"duet": 0.4}, 1e4, policy=adwin))
    table = read_study(folders, "ndcg@10").table
    assert sorted(table.policy) == ["on_drift 2", "on_drift 3", "on_drift adwin 0.05"]


def test_half_of_the_gain_is_left_where_the_line_says(study: Study) -> None:
    halves = half_gain(study)
    # half of .10 is .05, three eighths of the way from .02 at 10 kbit/s to .10 at 100
    assert halves["duet"] == pytest.approx(10 ** (4 + 3 / 8))
    assert np.isnan(halves["fedavg"])  # keeps all of it
    assert "static" not in halves


def test_a_gain_is_against_static_wherever_that_was_played(study: Study) -> None:
    table = study.table
    row = table[(table.strategy == "duet") & (table.rate_scale == 1) & (table.policy == "always")]
    assert row[row.protocol == "as it is"].gain.iloc[0] == pytest.approx(0.1)
    assert row[row.protocol == "float16"].gain.iloc[0] == pytest.approx(0.09)
    assert (table[table.strategy == "duet"].bytes == 2000).all()


def test_the_front_holds_what_nothing_beats(study: Study) -> None:
    front = pareto(study.table)
    assert front.strategy.tolist() == ["static", "duet"]
    assert front["mean"].is_monotonic_increasing


def test_seeds_are_pooled(tmp_path: Path) -> None:
    folders = [
        run_folder(tmp_path / f"{seed}", {"duet": 0.5 + seed / 10}, 1e4, seed=seed)
        for seed in range(3)
    ]
    table = read_study(folders, "ndcg@10").table
    assert len(table) == 1 and table.num_seeds[0] == 3
    assert table["mean"][0] == pytest.approx(0.6 + 0.095)  # 0.1 a device more, of 10 events


def test_notes_on_trainings_are_at_the_head_of_their_strategy(tmp_path: Path) -> None:
    folders = study_folders(tmp_path)
    said = {"t": {"duet": ["training never beat its start"]}}
    for folder in folders[1:3]:
        with (folder / "config.yaml").open("a") as config:
            config.write("task: t\n")
        (folder / "notes.yaml").write_text(yaml.safe_dump(said))
    words = summary_of(read_study(folders, "ndcg@10"))
    assert "| link | median uplink | duet (1) | fedavg |" in words
    assert words.count("(1) duet: training never beat its start.") == 1


@pytest.mark.slow
def test_the_page_and_the_words_are_made_from_the_table(tmp_path: Path) -> None:
    page = write_stress(study_folders(tmp_path), tmp_path / "out")
    text, words = page.read_text(), (tmp_path / "out" / "stress.md").read_text()
    assert text.count("<figure") == 6 and "<svg" in text
    assert "fedavg is better below an uplink of 13.3 kbit/s, duet above it." in words
    assert "gain over static (no control was played) down to 23.7 kbit/s." in words
    assert "With float16, duet on n takes 100% of the bytes; ndcg@10 changes by -0.0100." in words
    late = (
        "- Half of the parameters of duet or more are late up to an uplink of 100 kbit/s (n); none"
    )
    assert late in words
    assert "duet, random: 0.6050 (100.0%); always 0.6950." in words
    assert "| n × 0.01 | 1 kbit/s | +0.0000, 100% | **+0.0300**, 100% |" in words
    assert len(words.splitlines()) < 60  # one page
    again = write_stress(study_folders(tmp_path / "b"), tmp_path / "b" / "out")
    assert again.read_text() == text


def test_studies_of_several_data_and_unknown_metrics_are_refused(tmp_path: Path) -> None:
    folders = study_folders(tmp_path)
    with pytest.raises(UserError, match="metric must be one of ndcg@10, got 'auc'"):
        read_study(folders, "auc")
    other = run_folder(tmp_path / "x", {"duet": 0.5}, 1e4)
    config = yaml.safe_load((other / "config.yaml").read_text())
    (other / "config.yaml").write_text(yaml.safe_dump({**config, "data": {"name": "e"}}))
    with pytest.raises(UserError, match="of one data, got d, e"):
        write_stress([*folders, other], tmp_path / "out")


def test_the_words_are_the_same_on_the_page_as_in_the_file() -> None:
    text = "# A & b\n\nOne **two**.\n\n| x | y |\n|---|---|\n| 1 | **2** |\n- an item\n- another\n"
    assert to_html(text).splitlines() == [
        "<h1>A &amp; b</h1>",
        "<p>One <b>two</b>.</p>",
        "<div class='scroll'><table><tr><th>x</th><th>y</th></tr>"
        "<tr><td>1</td><td><b>2</b></td></tr></table></div>",
        "<ul><li>an item</li><li>another</li></ul>",
    ]


def test_a_strategy_named_like_a_tag_is_shown_as_it_is_named(tmp_path: Path) -> None:
    folders = [
        run_folder(tmp_path / f"{k}", {"static": 0.5, "<b>x</b>": 0.5 + 0.1 * k}, 10.0 ** (3 + k))
        for k in range(2)
    ]

    page = write_stress(folders, tmp_path / "out").read_text(encoding="utf-8")

    assert "<b>x</b>" not in page and "&lt;b&gt;x&lt;/b&gt;" in page
