"""The report: what it says, what it survives, and that it needs nothing beside it."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import config, results

from cdc_flower.core.errors import UserError
from cdc_flower.report import Comparison, RunFolder, read_folder, report_from_folders, write_report
from cdc_flower.report.comparison.figure_data import ecdf, panels_of, pareto_front, with_age
from cdc_flower.report.comparison.narrative import reading
from cdc_flower.report.comparison.page import _title, render
from cdc_flower.report.comparison.papers import papers_for
from cdc_flower.report.drawing.style import spread, strategy_colors
from cdc_flower.report.folders import pooled_results, run_labels, silent_differences
from cdc_flower.strategies.registry import strategies
from cdc_flower.tables.long_table import ResultsWriter
from cdc_flower.tables.results import Results
from cdc_flower.tables.summary import summarize

pytestmark = pytest.mark.slow  # plays whole runs


def run_of(
    name: str, frame: pd.DataFrame, config: dict[str, Any] | None = None, log: str = ""
) -> RunFolder:
    return RunFolder(name, Results.of(frame), config or {}, log)


def page_of(runs: list[RunFolder]) -> str:
    return render(Comparison.of(runs))


def folder_of(path: Path, frame: pd.DataFrame, settings: dict[str, Any] | None = None) -> Path:
    path.mkdir()
    with ResultsWriter(path / "results.parquet") as writer:
        writer.append(frame)
    if settings is not None:
        (path / "config.yaml").write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with its report."""
    folder = folder_of(tmp_path_factory.mktemp("runs") / "a", results(), config())
    (folder / "run.log").write_text("segment 3 done\n")
    page, _ = report_from_folders([folder])
    assert page == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def small_page(small_folder: Path) -> str:
    return (small_folder / "report.html").read_text(encoding="utf-8")


def reading_of(frame: pd.DataFrame) -> str:
    return reading(panels_of(Results.of(frame))[0], summarize(Results.of(frame)))


def test_a_run_folder_becomes_one_page_that_needs_nothing_beside_it(small_page: str) -> None:
    text = small_page
    assert text.count("<svg ") == 5
    assert not re.search(r"<(script|link|img|iframe)\b|@import|\bsrc=", text)
    assert set(re.findall(r'href=[\'"](https?://[^/]+)', text)) == {"https://arxiv.org"}
    for part in (
        "persona",
        "cdc-flower seed=0",
        "name: embedded",
        "segment 3 done",
        "2509.06552",
        "@inproceedings",
    ):
        assert part in text
    assert "duet" not in text  # only the papers of the strategies that ran


def test_every_svg_is_well_formed_and_no_id_stands_twice(small_page: str) -> None:
    pictures = re.findall(r"<svg .*?</svg>", small_page, flags=re.DOTALL)
    for picture in pictures:
        ElementTree.fromstring(picture)
    ids = re.findall(r'\bid="([^"]+)"', "".join(pictures))
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', "".join(pictures)))
    assert used <= set(ids)


def test_the_same_runs_give_the_same_bytes(
    small_folder: Path, small_page: str, tmp_path: Path
) -> None:
    write_report(Comparison.of([read_folder(small_folder)]), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == small_page.encode()


def test_a_strategy_named_like_a_tag_is_shown_as_it_is_named() -> None:
    page = page_of([run_of("a", results(("static", "<b>x</b>")), config())])

    assert "<b>x</b>" not in page
    assert page.count("&lt;b&gt;x&lt;/b&gt;") > 5  # in the reading, in tables and in figures


def test_markup_in_names_and_configs_is_escaped() -> None:
    frame = results(("static", "<b>$x$"), run_id="<i>run", experiment="<u>exp")
    run = run_of(
        "a", frame, config(network="<em>net", command="cdc <script>alert(1)</script>"), "<s>log"
    )
    text = page_of([run])
    for tag in ("<b>$x$", "<i>run", "<u>exp", "<em>net", "<script>", "<s>log"):
        assert tag not in text
    assert "&lt;script&gt;" in text and "$x$" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"num_segments": 1},
        {"strategies": ("persona",)},
        {"strategies": ("static",)},
        {"num_devices": 1},
        {"num_devices": 1, "num_segments": 1, "strategies": ("new_one",)},
        {"shifts": False},
        {"value_sum": np.full((6, 2), np.nan)},
        {"value_sum": np.full((6, 2), np.inf)},
        {"value_sum": np.zeros((6, 2)), "value_count": np.zeros((6, 2))},
        {"latency_s": np.nan, "staleness_s": np.nan},
        {"latency_s": 0.0, "staleness_s": 0.0},
        {"staleness_s": np.array([0.0, 1.0, 10.0, 1e3, 1e5, np.inf])},
        {"bytes_up": 0, "bytes_down": 0},
        {"metrics": ("log_loss", "rmse")},
        {"metrics": ("accuracy",), "value_sum": np.ones((6, 1)), "value_count": np.ones((6, 1))},
        {"num_segments": 0},
        {"strategies": tuple(f"strategy_with_a_very_long_name_{number}" for number in range(9))},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_odd_and_partial_results_are_shown_all_the_same(changes: dict[str, Any]) -> None:
    frame = results(**changes) if changes.get("num_segments") != 0 else results().iloc[:0]
    assert "</html>" in page_of([run_of("a", frame)])


def test_runs_that_differ_by_seed_only_are_pooled(tmp_path: Path) -> None:
    folders = [
        folder_of(tmp_path / str(seed), results(run_id=f"r{seed}", seed=seed), config(seed=seed))
        for seed in (0, 1)
    ]
    runs = [read_folder(folder) for folder in folders]
    assert run_labels(runs) == ["", ""]
    assert silent_differences(runs) == []
    page, _ = report_from_folders(folders)
    assert page == tmp_path / "report.html"
    text = page.read_text(encoding="utf-8")
    assert "n = 6 devices, 2 seeds" in text and "cdc-flower seed=1" in text


def test_runs_on_different_networks_stand_side_by_side() -> None:
    runs = [
        run_of("a", results(), config("4g")),
        run_of("b", results(run_id="run-1"), config("nb_iot")),
    ]
    assert run_labels(runs) == ["4g", "nb_iot"]
    text = page_of(runs)
    assert "Side by side: 4g; nb_iot." in text
    assert text.count('class="groups"') + text.count("class='groups'") == 2


def test_what_pooled_runs_silently_differ_in_is_said() -> None:
    runs = [
        run_of("a", results(), config(fast=1)),
        run_of("b", results(run_id="b", seed=1), config(fast=2)),
    ]
    assert silent_differences(runs) == ["fast"]
    assert "Pooled although they also differ in: fast." in page_of(runs)


def test_two_folders_with_the_same_run_id_are_told_apart() -> None:
    pooled = pooled_results([run_of("a", results()), run_of("b", results(seed=1))])
    assert pooled.cells["run_id"].unique().tolist() == ["run-0", "run-0 (b, 1)"]
    row = summarize(pooled).query("strategy == 'persona'").iloc[0]
    assert row["bytes_up_per_device"] == 400


def test_a_folder_that_is_named_twice_counts_once(
    small_folder: Path, small_page: str, tmp_path: Path
) -> None:
    page, _ = report_from_folders([small_folder, small_folder], tmp_path / "twice.html")
    assert page.read_bytes() == small_page.encode()


def test_a_folder_without_results_or_with_a_broken_config_is_told_in_one_line(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match="there is no such run folder"):
        report_from_folders([tmp_path / "none"])
    with pytest.raises(UserError, match=r"it has no results\.parquet"):
        report_from_folders([tmp_path])
    with pytest.raises(UserError, match="no run folder was given"):
        report_from_folders([])
    folder = folder_of(tmp_path / "a", results(), config())
    (folder / "config.yaml").write_text("a: [1,\nb: }")
    with pytest.raises(UserError, match=r"config\.yaml: not readable as YAML") as error:
        report_from_folders([folder])
    assert "\n" not in str(error.value)
    (folder / "config.yaml").write_text("- a list")
    with pytest.raises(UserError, match="a config must be a mapping, got list"):
        report_from_folders([folder])
    (folder / "config.yaml").unlink()
    with pytest.raises(UserError, match="the report cannot be written"):
        report_from_folders([folder], tmp_path / "no" / "report.html")


def test_the_reading_names_the_best_its_gain_and_its_bytes() -> None:
    text = reading_of(results())
    assert text.startswith("On ndcg@10, persona is highest with 0.")
    gain = re.search(r"([+-]0\.\d+) \(95 % interval \+0\.\d+ to \+0\.\d+\) against static", text)
    assert gain and float(gain[1]) == pytest.approx(0.06, abs=0.002)
    assert "for 0.4 kB up and 3.6 kB down per device" in text
    assert re.search(r"Next comes fedavg, 0\.04\d? behind|Next comes fedavg, 0\.03\d behind", text)
    assert "excludes zero" in text and "labels" not in text


def test_the_reading_is_careful() -> None:
    assert "no strategy improves on static" in reading_of(
        results(("static", "other"), value_sum=np.ones((6, 2)))
    )
    assert "too little to tell the two apart" in reading_of(
        results(("persona", "static"), value_sum=np.ones((6, 2)))
    )
    assert reading_of(results(("persona",))).startswith("Only persona ran: its ndcg@10 is 0.")
    assert "Nothing was counted" in reading_of(
        results(value_count=np.zeros((6, 2)), value_sum=np.zeros((6, 2)))
    )
    labels = reading_of(results(("static", "fedavg")))
    told = "fedavg was told 0 clicks and trained on 168; without labels static is best"
    assert told in labels and "(no control of fedavg was played)" in labels
    lower = reading_of(results(metrics=("log_loss", "rmse")))
    assert lower.startswith("On log_loss, static is lowest")


def test_ages_count_from_the_last_shift_of_each_device() -> None:
    is_shift = {0: [False, False], 1: [True, False], 2: [False, False], 3: [True, True]}
    frame = pd.concat(
        [
            results(("static",), num_devices=2, num_segments=1).assign(
                segment=segment, is_shift=np.repeat(shift, 2)
            )
            for segment, shift in is_shift.items()
        ]
    )
    aged = with_age(panels_of(Results.of(frame))[0], min_share=0.0)
    rows = aged.rows("auc", ["device_id", "segment", "since_shift"])
    assert rows.set_index(["device_id", "segment"])["since_shift"].to_dict() == {
        (0, 1): 0,
        (0, 2): 1,
        (0, 3): 0,
        (1, 3): 0,
    }


def test_the_front_keeps_what_no_other_beats() -> None:
    cost, value = np.array([0.0, 10.0, 10.0, 20.0, 5.0]), np.array([0.3, 0.5, 0.4, 0.45, 0.3])
    assert pareto_front(cost, value).tolist() == [0, 1]


def test_the_distribution_of_latencies_skips_what_never_arrived() -> None:
    values, share = ecdf([3.0, np.nan, 1.0])
    assert values.tolist() == [1.0, 3.0] and share.tolist() == [0.5, 1.0]
    values, share = ecdf(np.arange(10_000.0))
    assert len(values) == 200 and share[-1] == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=8), st.floats(0.1, 30))
def test_labels_keep_their_order_their_distance_and_stay_inside(
    values: list[float], gap: float
) -> None:
    positions = spread(values, gap, 0.0, 100.0)
    ordered = positions[np.argsort(values, kind="stable")]
    fits = min(gap, 100.0 / max(len(values) - 1, 1))
    assert (np.diff(ordered) >= fits - 1e-6).all()
    assert positions.min() >= -1e-6 and positions.max() <= 100 + 1e-6


def test_labels_that_are_apart_already_do_not_move() -> None:
    np.testing.assert_allclose(spread([10.0, 50.0, 30.0], 5.0, 0.0, 100.0), [10.0, 50.0, 30.0])


def test_a_strategy_has_its_color_whoever_runs_beside_it() -> None:
    colors = strategy_colors(["static", "zeta", "persona", "alpha"])
    assert colors["persona"] == strategies["persona"].facts.color and colors["static"] == "#7f7f7f"
    assert len(set(colors.values())) == 4
    assert strategy_colors(["alpha", "persona", "zeta", "static"]) == colors


def test_ten_arms_have_ten_colors() -> None:
    assert (
        len(set(strategy_colors([*list(strategies)[:5], *(f"arm_{k}" for k in range(5))]).values()))
        == 10
    )


def test_papers_are_those_of_the_strategies_and_flower() -> None:
    assert [
        paper.name for paper in papers_for(["static", "persona", "persona_small", "fedavg"])
    ] == [
        "Persona",
        "FedAvg",
        "Flower",
    ]


def test_without_a_named_experiment_the_title_tells_the_data_the_model_and_the_network() -> None:
    frame = pd.DataFrame({"experiment": ["none", "none"]})
    none = Results(frame, {})
    config = {"data": {"name": "ml_1m"}, "model": {"name": "din"}, "network": {"name": "lte"}}
    runs = [
        RunFolder("a", none, config),
        RunFolder("b", none, {**config, "network": {"name": "nb_iot"}}),
    ]

    assert _title(runs, frame) == "ml_1m, din, lte and nb_iot"
    assert _title(runs, pd.DataFrame({"experiment": ["stress"]})) == "stress"
    assert _title([RunFolder("a", none)], frame) == "a"


CONTROLLED = ("static", "persona", "persona@mean", "persona@other", "fedavg")


def test_controls_are_folded_beside_their_strategy_and_are_no_competitors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gains = {"static": 0.0, "persona": 0.03, "persona@mean": 0.03, "persona@other": 0.09}
    monkeypatch.setattr("report_cases.GAINS", {**gains, "fedavg": 0.02})
    whole = Comparison.of([run_of("a", results(CONTROLLED))])
    page = render(whole)

    assert whole.strategies == ["static", "persona", "fedavg"]
    assert "3 strategies" in page and "persona@" not in page
    assert "On ndcg@10, persona is highest" in page, "persona@other has more, and does not count"
    assert "is further training, not adaptation: " in page
    assert "<summary>Controls: which part of a gain is adaptation</summary>" in page
    assert "Controls" not in render(Comparison.of([run_of("a", results())]))


def test_a_gain_above_both_controls_is_called_adaptation(monkeypatch: pytest.MonkeyPatch) -> None:
    gains = {"static": 0.0, "persona": 0.06, "persona@mean": 0.0, "persona@other": -0.02}
    monkeypatch.setattr("report_cases.GAINS", {**gains, "fedavg": 0.02})
    page = page_of([run_of("a", results(CONTROLLED))])

    assert re.search(r"The gain of persona in ndcg@10 \(\+0\.0\d+\) is adaptation: ", page)
    assert "not adaptation:" not in page


def test_an_oracle_competes_with_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    gains = {"static": 0.0, "persona": 0.03, "oracle": 0.2, "fedavg": 0.02}
    monkeypatch.setattr("report_cases.GAINS", gains)
    page = render(Comparison.of([run_of("a", results(tuple(gains)))]))
    assert "On ndcg@10, persona is highest" in page and "Next comes fedavg" in page
    assert "3 strategies" in page
