"""Baselines and methods are tuned alike, by a script."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from report_cases import results

from cdc_flower.strategies.registry import build_strategy
from cdc_flower.tables.long_table import ResultsWriter

SCRIPT = Path(__file__).parents[1] / "results" / "tuning.py"


@pytest.fixture(scope="module")
def tuning() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tuning", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_each_has_as_many_settings_of_options_that_it_has(tuning: ModuleType) -> None:
    assert {"fine_tuning", "fedavg", "duet", "persona"} == set(tuning.SETTINGS)
    for method, settings in tuning.SETTINGS.items():
        assert len(settings) == tuning.NUM_SETTINGS and settings[0] == {}
        assert len({str(own) for own in settings}) == tuning.NUM_SETTINGS
        for own in settings:
            assert build_strategy(method, dict(own)) is not None  # else an option has another name


def played(folder: Path, arms: list[str]) -> Path:
    """A run folder in which later arms are better."""
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        gains = {name: number / 100 for number, name in enumerate(["static", *arms])}
        patch.setattr("report_cases.GAINS", gains)
        with ResultsWriter(folder / "results.parquet") as writer:
            writer.append(results(("static", *arms)))
    return folder


def test_finished_runs_are_not_played_again_and_the_best_is_chosen(
    tuning: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def play(line: list[str], **_: object) -> None:
        asked.append(line)
        played(tmp_path / "runs" / "regimes_persona", list(tuning.arms_of("persona")))

    for method in ("fine_tuning", "fedavg", "duet"):
        played(tmp_path / "runs" / f"regimes_{method}", list(tuning.arms_of(method)))
    monkeypatch.setattr(tuning.subprocess, "run", play)
    places = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    tuning.main(["regimes", *places, "--", "num_segments=4"])
    tuning.main(["regimes", *places])
    (line,) = asked
    assert "num_segments=4" in line and "seed=0" in line
    assert "+strategy.persona_2={method: persona,num_prototypes: 1}" in line
    table = pd.read_csv(tmp_path / "out" / "regimes.csv")
    assert table.groupby("strategy").size().to_dict() == dict.fromkeys(tuning.SETTINGS, 4)
    chosen = table[table["is_chosen"]]
    assert chosen["strategy"].tolist() == list(tuning.SETTINGS)
    assert chosen["setting"].tolist()[1] == "fine_tuning_steps=5"
