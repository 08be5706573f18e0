"""A run from a configuration to a run folder, on a small fleet."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from run_cases import SMALL, config_of, played_table, quiet, table_of
from safetensors.numpy import load_file

from cdc_flower.core.errors import UserError
from cdc_flower.report import read_folder
from cdc_flower.strategies.persona.prototypes import Bank
from cdc_flower.study import run as runs
from cdc_flower.study import strategy_play
from cdc_flower.study.play import play
from cdc_flower.tables.columns import COLUMNS

pytestmark = pytest.mark.slow  # plays whole runs


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with every strategy and a report, seed 0, on LTE."""
    out = tmp_path_factory.mktemp("runs") / "new" / "run"
    folder = runs.run(config_of("report=true", f"out={out}"), console=quiet())
    assert folder == out
    return folder


def test_a_run_folder_holds_the_table_the_summary_the_report_the_configuration_and_the_log(
    whole_run: Path,
) -> None:
    folder = whole_run

    names = {
        "results.parquet",
        "summary.csv",
        "report.html",
        "config.yaml",
        "links.yaml",
        "provenance.yaml",
        "notes.yaml",
        "run.log",
        "state",
    }
    assert {path.name for path in folder.iterdir()} == names
    table = table_of(folder)
    assert tuple(table.columns) == COLUMNS.names
    assert set(table["strategy"]) == {
        "static",
        "fine_tuning",
        "fedavg",
        "duet",
        *("persona", "persona_regimes"),
    }
    assert len(table) == 6 * 8 * 2 * 9  # strategies, devices, segments, metrics
    assert table["run_id"].unique().tolist() == [runs.run_id_of(config_of())]
    summary = pd.read_csv(folder / "summary.csv")
    assert len(summary) == 6 * 9
    assert yaml.safe_load((folder / "config.yaml").read_text())["fleet"]["num_devices"] == 8
    assert "duet: done" in (folder / "run.log").read_text()


def test_the_same_seed_twice_gives_the_same_table_and_another_seed_another(
    whole_run: Path, tmp_path: Path
) -> None:
    one = table_of(whole_run)
    same = played_table(config_of(f"out={tmp_path}/same"))
    other = played_table(config_of("seed=1", "strategies=[static]", f"out={tmp_path}/other"))

    pd.testing.assert_frame_equal(one, same)
    static = one[one["strategy"] == "static"]
    assert (static["value_sum"].to_numpy() != other["value_sum"].to_numpy()).any()


def test_a_strategy_does_not_depend_on_which_others_run_beside_it(tmp_path: Path) -> None:
    alone = played_table(config_of("strategies=[duet]", f"out={tmp_path}/alone"))
    beside = played_table(config_of("strategies=[fedavg,duet]", f"out={tmp_path}/beside"))

    columns = [
        name
        for name in COLUMNS.names
        if name not in ("run_id", "strategy", "metric", "experiment", "task")
    ]
    beside = beside[beside["strategy"] == "duet"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone[columns], beside[columns])


@pytest.mark.slow
def test_an_unlimited_network_has_no_latency_and_its_metrics_do_not_depend_on_the_profile(
    whole_run: Path, tmp_path: Path
) -> None:
    config = config_of("network=unlimited", f"out={tmp_path}/unlimited")
    unlimited, lte = played_table(config), table_of(whole_run)

    cloud = unlimited[unlimited["strategy"] == "duet"]
    assert (cloud["latency_s"] < 1e-5).all()  # what is left is the cloud's own work
    # On LTE everything arrives within 0.6 s, before the first event of a segment of 60 s.
    pd.testing.assert_series_equal(unlimited["value_sum"], lte["value_sum"])


def test_an_interrupt_leaves_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(strategy: Any, *args: Any, **kwargs: Any) -> None:
        if type(strategy).__name__ == "FedAvg":
            raise KeyboardInterrupt
        play(strategy, *args, **kwargs)

    monkeypatch.setattr(strategy_play, "play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs.run(config_of("report=true", f"out={tmp_path}/run"), console=quiet())

    folder = tmp_path / "run"
    assert set(read_folder(folder).results.cells["strategy"]) == {"static", "fine_tuning"}
    assert (folder / "report.html").exists() and (folder / "summary.csv").exists()
    assert "interrupted" in (folder / "run.log").read_text()


WRONG = [
    ("strategies=[static,duett]", "strategies: unknown strategy 'duett'; did you mean 'duet'?"),
    ("strategies=[]", "strategies must be a list of at least one name"),
    ("strategies=[duet,duet]", "strategies must name each strategy once, got 'duet' twice"),
    ("network.rate_up_bps=-1", "network.rate_up_bps must be a number > 0, got -1"),
    ("network.rate_up_bps=fast", "network.rate_up_bps must be a number > 0, got fast"),
    ("network.rtt_s=-0.1", "network.rtt_s must be a number >= 0 and finite, got -0.1"),
    ("fleet.num_devices=0", "fleet.num_devices must be a whole number >= 1 or null, got 0"),
    ("num_negatives=60", "num_negatives must be < 60, the number of items in the data, got 60"),
    ("seed=99999999999999999999", "seed must be <= 2147483647, got 99999999999999999999"),
    ("strategy.duet.rate=nan", "strategy.duet.rate must be a number"),
    ("strategy.duet.joint=maybe", "strategy.duet.joint must be true or false, got maybe"),
    ("fleet.device_flops_per_s=0", "fleet.device_flops_per_s must be a number > 0, got 0"),
    ("num_segments=1.5", "num_segments must be a whole number >= 1, got 1.5"),
    ("seed=-1", "seed must be a whole number >= 0, got -1"),
    ("grid.name=spark", "grid.name: unknown grid 'spark'"),
    ("model.name=bert", "model.name: unknown model 'bert'"),
    ("cloud.validation_fraction=1", "cloud.validation_fraction must be a number in (0, 1), got 1"),
    ("cloud.rate=-1", "cloud.rate must be a number >= 0, got -1"),
    (
        "strategy.fine_tuning.steps=-1",
        "strategy.fine_tuning.steps must be a whole number >= 0, got -1",
    ),
    ("+strategy.duet.depth=3", "strategy.duet: "),
    (
        "data.shift=sudden",
        "data.shift must be one of abrupt, gradual, incremental, none, recurring, got sudden",
    ),
    (
        "cloud.validation=lst",
        "cloud.validation must be one of devices, last, got lst; did you mean last?",
    ),
    ("data.cut=last", "num_segments must be 1 with data.cut=last, got 2"),
    ("data.cut=calendar", "data.cut must be one of events, last, got calendar"),
    ("references=[markow]", "references: unknown reference 'markow'; did you mean 'markov'?"),
    (
        "references=popularity",
        "references must be a list of texts, got popularity",
    ),
    ("references=[markov,markov]", "references must be names of their own, got 'markov' twice"),
    (
        "+strategy.static.method=duet",
        "strategy.static.method must be left out, since static is a method itself",
    ),
]


@pytest.mark.parametrize(("override", "text"), WRONG)
def test_a_wrong_value_is_one_line_with_the_rule_and_nothing_is_written(
    override: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        runs.run(config_of(override, f"out={tmp_path}/run"), console=quiet())

    assert text in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_width_that_the_model_cannot_have_is_told_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.width must be a multiple of 4, got 7"):
        runs.run(config_of("model=sasrec", "model.width=7", f"out={tmp_path}/run"), console=quiet())


def test_without_a_number_of_devices_the_fleet_is_all_that_the_data_have(tmp_path: Path) -> None:
    path = tmp_path / "u.data"
    path.write_text(
        "".join(f"{user}\t{item}\t5\t{item}\n" for user in (1, 2, 3) for item in range(1, 9))
        + "x\n"
    )
    small = [text for text in SMALL if not text.startswith(("data.", "fleet.", "num_negatives"))]
    overrides = [
        "data=ml_100k",
        f"data.path={path}",
        "data.on_error=skip",
        "num_negatives=3",
        "strategies=[static]",
    ]

    table = played_table(config_of(*overrides, f"out={tmp_path}/run", small=small))

    assert set(table["device_id"]) == {0, 1, 2}


def test_more_devices_than_the_data_have_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "u.data"
    path.write_text(
        "".join(f"{user}\t{item}\t5\t{item}\n" for user in (1, 2) for item in range(1, 9))
    )
    small = [text for text in SMALL if not text.startswith("data.")]
    overrides = [
        "data=ml_100k",
        f"data.path={path}",
        "fleet.num_devices=3",
        "num_negatives=5",
        f"out={tmp_path}/run",
    ]

    with pytest.raises(
        UserError,
        match=r"fleet\.num_devices must be <= 2, the number of devices in .*u\.data, got 3",
    ):
        runs.run(config_of(*overrides, small=small), console=quiet())


def test_a_folder_that_cannot_be_written_or_holds_a_run_is_an_error_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "results.parquet").write_text("")

    for name, text in (
        ("file/run", "out must be a folder that can be written"),
        ("old", "out must not hold a run"),
    ):
        with pytest.raises(UserError, match=text):
            runs.run(config_of(f"out={tmp_path}/{name}"), console=quiet())


def test_what_is_logged_after_a_run_does_not_go_to_its_log(tmp_path: Path) -> None:
    played_table(config_of("strategies=[static]", f"out={tmp_path}/run"))
    folder = tmp_path / "run"
    before = (folder / "run.log").read_text()

    runs.log.warning("later")

    assert (folder / "run.log").read_text() == before


@pytest.mark.slow
def test_a_run_from_the_cache_gives_the_same_table_and_other_data_train_anew(
    tmp_path: Path,
) -> None:
    cache, two = tmp_path / "cache", "strategies=[static,duet]"
    plain = played_table(config_of(two, f"out={tmp_path}/plain"))
    for name in "ab":
        table = played_table(config_of(two, f"cache={cache}", f"out={tmp_path}/{name}"))
        pd.testing.assert_frame_equal(plain, table)
    assert len(list(cache.iterdir())) == 2  # the base model and DUET's
    assert (tmp_path / "b" / "run.log").read_text().count("parameters from") == 2
    played_table(config_of(two, f"cache={cache}", "network=nb_iot", f"out={tmp_path}/c"))
    assert len(list(cache.iterdir())) == 2  # the network is nothing that training depends on
    played_table(config_of(two, f"cache={cache}", "data.history_events=21", f"out={tmp_path}/d"))
    assert len(list(cache.iterdir())) == 4


def test_what_a_strategy_learned_during_the_stream_is_kept_and_can_be_taken_up(
    tmp_path: Path,
) -> None:
    knobs = {"num_prototypes": 2, "epochs": 1, "refinement": "bytes", "bytes_rate": 0.5}
    persona = [f"strategy.persona.{name}={value}" for name, value in knobs.items()]
    played_table(config_of(f"out={tmp_path}/run", "strategies=[static,persona]", *persona))
    folder = tmp_path / "run"

    assert [path.name for path in (folder / "state").iterdir()] == ["persona.safetensors"]
    bank = Bank.from_arrays(load_file(folder / "state" / "persona.safetensors"))
    assert len(bank) == 2
    assert bank.version.sum() > 0
