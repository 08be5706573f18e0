"""Tables, figures and files of a comparison, from memory and from run folders."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from api_cases import keep_compositions, small

import cdc_flower as cdc
from cdc_flower.tables.column import Scope
from cdc_flower.tables.columns import COLUMNS


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_compositions(monkeypatch)


@pytest.fixture(scope="module")
def found() -> cdc.Run:
    return small(["static", "fine_tuning", "duet"], config={"strategy.duet.epochs": 1})


@pytest.fixture(scope="module")
def folder(found: cdc.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return found.save(tmp_path_factory.mktemp("runs") / "one")


def test_costs_have_each_device_and_segment_once_where_the_file_repeats_them(
    found: cdc.Run, folder: Path
) -> None:
    rows = pd.read_parquet(folder / "results.parquet")
    num_metrics = rows["metric"].nunique()

    once = found.costs.groupby("strategy").bytes_up.sum()
    repeated = rows.groupby("strategy").bytes_up.sum()
    assert len(found.costs) == 3 * 6 * 2 and num_metrics == 9
    assert once["duet"] > 0 and repeated["duet"] == num_metrics * once["duet"]
    per_device = found.summary.set_index("strategy")["bytes_up_per_device"]
    assert once["duet"] / 6 == per_device["duet"].iloc[0]
    scopes = {column.name for column in COLUMNS if column.scope is not Scope.METRIC}
    assert set(found.costs) == scopes


def test_results_have_metrics_only_and_their_pooled_value_is_that_of_the_summary(
    found: cdc.Run,
) -> None:
    rows = found.results
    assert set(rows) == {*COLUMNS.keys, "metric", "value", "value_sum", "value_count"}
    assert len(rows) == 9 * len(found.costs)
    sums = rows.groupby(["strategy", "metric"])[["value_sum", "value_count"]].sum()
    pooled = sums["value_sum"] / sums["value_count"]
    means = found.summary.set_index(["strategy", "metric"])["mean"]
    np.testing.assert_allclose(pooled[means.index], means, rtol=1e-12)
    one = rows.iloc[0]
    assert one["value"] == one["value_sum"] / one["value_count"]


def test_a_summary_that_is_changed_changes_nothing_else(found: cdc.Run) -> None:
    changed = found.summary
    changed["mean"] = 0.0
    assert (found.summary["mean"] != 0).any()


def test_a_folder_gives_the_same_and_so_does_a_link_to_it(
    found: cdc.Run, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "latest").symlink_to(folder)
    for place in (folder, str(folder), tmp_path / "latest", [folder]):
        loaded = cdc.load(place)
        for name in ("results", "costs"):
            pd.testing.assert_frame_equal(getattr(loaded, name), getattr(found, name))
        assert repr(loaded) == repr(found)
    pd.testing.assert_frame_equal(loaded.summary, found.summary)
    assert loaded.to_latex() == found.to_latex()
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "links.yaml", "notes.yaml", "results.parquet", "summary.csv"),
        "report.html",
    }


@pytest.mark.slow
def test_several_folders_stand_side_by_side_by_what_they_differ_in(
    folder: Path, tmp_path: Path
) -> None:
    small(["static"], network="lora", out=(other := tmp_path / "two"), config={"report": False})
    for loaded in (cdc.load(folder, other), cdc.load([folder, other])):
        assert loaded.results["run"].unique().tolist() == ["lte", "lora"]
        assert loaded.costs.groupby("run", observed=True).size().tolist() == [36, 12]
        assert set(loaded.summary["run"]) == {"lte", "lora"}
    with pytest.raises(cdc.UserError, match="save must be asked of one run, got 2"):
        loaded.save(tmp_path / "three")


@pytest.mark.slow
def test_runs_that_differ_by_their_seed_are_pooled(folder: Path, tmp_path: Path) -> None:
    small(["static"], seed=1, out=(other := tmp_path / "two"), config={"report": False})
    loaded = cdc.load(folder, other)
    seeds = loaded.summary.set_index("strategy")["num_seeds"]
    assert seeds["static"].eq(2).all() and seeds["duet"].eq(1).all()


def test_figures_are_those_of_the_report(found: cdc.Run, folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert found.figures == re.findall(r"<figure id='(\w+)'>", page)
    assert {"segments", "bytes", "waiting", "gain"} <= {*found.figures}
    figure = found.figure("bytes")
    assert "ndcg@10" in {axes.get_ylabel() for axes in figure.axes}
    with pytest.raises(cdc.UserError, match=r"unknown figure 'byte'; did you mean 'bytes'\?"):
        found.figure("byte")


def test_latex_has_a_row_a_strategy_and_escapes_names(found: cdc.Run) -> None:
    text = found.to_latex()
    static, tuned, duet = text.partition(r"\midrule")[2].split("\n")[1:4]
    head = next(line for line in text.split("\n") if line.startswith("strategy"))
    row = found.summary.set_index(["strategy", "metric"]).loc[("duet", "ndcg@10")]

    assert tuned.startswith(r"fine\_tuning & $") and static.startswith("static & $")
    assert static.count("--") == 3  # of the baseline no gain, and nothing arrives
    assert all(line.count("&") == head.count("&") for line in (static, tuned, duet))
    assert f"${row['mean']:.4f} \\pm {(row['high'] - row['low']) / 2:.4f}$" in duet
    assert f"${row['diff']:+.4f}" in duet
    assert f"{row['bytes_up_per_device'] / 1000:,.1f}" in duet
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_a_notebook_shows_the_table_and_a_terminal_a_line(found: cdc.Run) -> None:
    html = found._repr_html_()
    assert html.count("<tr>") == 4 and "fine_tuning" in html
    assert repr(found) == "Run(static, fine_tuning, duet; 6 devices, 2 segments, seed 0)"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((), "no run folder was given"),
        (([],), "no run folder was given"),
        ((3,), "load: a run folder must be a path, got 3"),
        (("nowhere",), "nowhere: there is no such run folder"),
        ((".",), "not a run folder"),
    ],
)
def test_a_mistake_about_folders_is_one_sentence(
    given: tuple[str, ...], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cdc.UserError, match=text):
        cdc.load(*given)


def test_a_baseline_may_be_another(folder: Path) -> None:
    assert set(cdc.load(folder, baseline="duet").summary["baseline"]) == {"duet"}
    with pytest.raises(cdc.UserError, match=r"unknown strategy 'duett'; did you mean 'duet'\?"):
        cdc.load(folder, baseline="duett")


def test_saving_again_is_refused(found: cdc.Run, folder: Path) -> None:
    with pytest.raises(cdc.UserError, match="out must not hold a run already"):
        found.save(folder)


def test_an_older_file_without_a_column_is_neutral_there(
    found: cdc.Run, folder: Path, tmp_path: Path
) -> None:
    rows = pd.read_parquet(folder / "results.parquet").drop(columns=["bytes_again", "num_labels"])
    rows.to_parquet(tmp_path / "results.parquet", index=False)
    loaded = cdc.load(tmp_path)
    assert (loaded.costs["bytes_again"] == 0).all()
    assert loaded.costs["num_labels"].dtype == found.costs["num_labels"].dtype
