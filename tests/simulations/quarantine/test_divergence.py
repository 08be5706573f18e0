"""One NaN does not decide a run, and a strategy that diverges by itself is told of."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hostile_cases import KINDS, Hostile, Seen
from quarantine_cases import DEVICE, played
from run_cases import config_of, quiet
from tiny import LABELS, fleet, inline, strategy, stream

from cdc_flower.simulations.chain import AtDevices
from cdc_flower.simulations.quarantine.bounds import Known
from cdc_flower.simulations.quarantine.link import WithQuarantine
from cdc_flower.simulations.quarantine.options import QuarantineOptions
from cdc_flower.study import run as runs
from cdc_flower.study.play import play
from cdc_flower.tasks.recommendation.task import RECOMMENDATION

NUM_DEVICES = 100


def of_a_hundred(enabled: bool, hostile: bool = True) -> tuple[pd.DataFrame, WithQuarantine]:
    """FedAvg on a hundred devices, of which one sends one NaN in one segment."""
    frames: list[pd.DataFrame] = []
    known = Known.of(RECOMMENDATION, stream(NUM_DEVICES))
    quarantine = WithQuarantine(QuarantineOptions(enabled=enabled), known)
    segments = (1,) if hostile else ()
    play(
        strategy("fedavg", NUM_DEVICES, num_train_devices=NUM_DEVICES),
        inline(NUM_DEVICES),
        fleet(NUM_DEVICES),
        stream(NUM_DEVICES).segment_starts_s,
        labels={**LABELS, "strategy": "fedavg"},
        collect=frames.append,
        chain=[AtDevices(lambda g: Hostile(g, KINDS["a NaN"], segments, Seen())), quarantine],
        rounds=lambda session: session.run(until=3),
    )
    return pd.concat(frames, ignore_index=True), quarantine


def ndcg(rows: pd.DataFrame) -> float:
    """NDCG@5 of the honest devices from segment 1 on."""
    mine = rows[(rows.metric == "ndcg@5") & (rows.device_id != DEVICE) & (rows.segment > 0)]
    return float(mine.value_sum.sum() / mine.value_count.sum())


def test_one_nan_of_a_hundred_devices_decides_a_run_without_and_not_with_a_quarantine() -> None:
    clean, _ = of_a_hundred(enabled=True, hostile=False)
    before, _ = of_a_hundred(enabled=False)
    after, quarantine = of_a_hundred(enabled=True)
    assert ndcg(before) < 0.5 * ndcg(clean)  # from the next segment on every score is NaN
    assert ndcg(after) == pytest.approx(ndcg(clean), abs=0.01) and ndcg(clean) > 0.1
    assert after.drop_duplicates(["segment", "device_id"]).num_quarantined.sum() == 1
    assert quarantine.notes() == [
        "1 reply of 1 device was left out (not finite: 1); quarantine.csv lists them"
    ]


def test_a_strategy_that_diverges_keeps_its_table_and_is_told_of() -> None:
    settings = {"rate": 1e30}
    tables, notes = [], []
    for enabled in (False, True):
        frames: list[pd.DataFrame] = []
        known = Known.of(RECOMMENDATION, stream())
        quarantine = WithQuarantine(QuarantineOptions(enabled=enabled), known)
        play(
            strategy("fedavg", **settings),
            inline(),
            fleet(),
            stream().segment_starts_s,
            labels={**LABELS, "strategy": "fedavg"},
            collect=frames.append,
            chain=[quarantine],
        )
        tables.append(pd.concat(frames, ignore_index=True))
        notes = quarantine.notes()
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert np.isfinite(tables[0].value_sum).all()
    assert notes == ["the model is not finite from segment 0 on"]


def test_a_device_that_diverges_by_itself_is_told_of_and_is_in_the_table() -> None:
    rows, quarantine = played("recommendation", "static", [])
    assert quarantine.notes() == []
    built = strategy("fine_tuning", rate=1e30)
    frames: list[pd.DataFrame] = []
    quarantine = WithQuarantine(known=Known.of(RECOMMENDATION, stream()))
    labels = {**LABELS, "strategy": "fine_tuning"}
    collect, starts_s = frames.append, stream().segment_starts_s
    play(built, inline(), fleet(), starts_s, labels=labels, collect=collect, chain=[quarantine])
    diverged = pd.concat(frames, ignore_index=True)
    assert len(diverged) == len(rows) and diverged.num_quarantined.sum() == 0
    assert quarantine.notes() == ["the loss is above 1e+12 from segment 0 on"]


def test_a_run_says_so_on_the_terminal_and_in_the_notes(tmp_path: Any) -> None:
    given = config_of("strategies=[static,fedavg]", "strategy.fedavg.rate=1e30")
    console = quiet()
    out = runs.run({**given, "out": str(tmp_path / "run")}, console=console)
    said = "the model is not finite from segment 0 on"
    assert f"fedavg: {said}." in console.file.getvalue()  # type: ignore[attr-defined]
    assert said in (out / "notes.yaml").read_text()  # from which the report has its footnotes
    assert not (out / "quarantine.csv").exists()
