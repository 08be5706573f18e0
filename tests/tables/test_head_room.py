"""The share of head-room in the summary: where an oracle was scored, and nowhere else."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from cdc_flower.report.comparison.tables import summary_table
from cdc_flower.tables.head_room import HEAD_ROOM, share_text, with_head_room
from cdc_flower.tables.summary import rich_table, summary_columns


def summary(**diffs: float) -> pd.DataFrame:
    """Rows of two metrics; the first strategy is the baseline."""
    rows = [
        {
            **dict.fromkeys(summary_columns(), 0.0),
            **{"run": "r", "task": "t", "strategy": name, "metric": metric, "baseline": "static"},
            **{"diff": diff * scale, "num_devices": 2, "num_seeds": 1},
        }
        for name, diff in diffs.items()
        for metric, scale in (("ndcg@10", 1.0), ("hr@10", 2.0))
    ]
    return pd.DataFrame(rows)


def test_the_share_is_the_gain_over_the_gain_of_the_oracle() -> None:
    table = with_head_room(summary(static=0.0, duet=0.05, oracle=0.2, markov=-0.1))
    share = table[table["metric"] == "ndcg@10"].set_index("strategy")[HEAD_ROOM]
    assert share.to_dict() == pytest.approx(
        {"static": 0, "duet": 0.25, "oracle": 1, "markov": -0.5}
    )
    assert table.loc[table["metric"] != "ndcg@10", HEAD_ROOM].isna().all()
    assert share_text(table[table["strategy"] == "duet"]) == "25 %"


def test_without_an_oracle_the_summary_stays_as_it_is() -> None:
    table = summary(static=0.0, duet=0.05)
    assert with_head_room(table) is table


@pytest.mark.parametrize("column", ["run", "task"])
def test_each_run_and_each_task_has_the_room_of_its_own_oracle(column: str) -> None:
    wide, narrow = summary(static=0.0, duet=0.05, oracle=0.2), summary(duet=0.05, oracle=0.1)
    table = with_head_room(pd.concat([wide, narrow.assign(**{column: "other"})]))
    share = table[(table["metric"] == "ndcg@10") & (table["strategy"] == "duet")][HEAD_ROOM]
    assert share.tolist() == pytest.approx([0.25, 0.5])


@pytest.mark.parametrize("gain", [0.0, -0.1, np.nan])
def test_without_head_room_there_is_no_share(gain: float) -> None:
    table = with_head_room(summary(static=0.0, duet=0.05, oracle=gain))
    assert table[HEAD_ROOM].isna().all()
    assert share_text(table[table["strategy"] == "duet"]) == "–"


def test_tables_show_the_share_beside_the_metrics() -> None:
    table = with_head_room(summary(static=0.0, duet=0.05, oracle=0.2))
    shown = io.StringIO()
    Console(file=shown, width=140).print(rich_table(table))
    assert "head-room" in shown.getvalue() and "25 %" in shown.getvalue()
    page = summary_table(table, dict.fromkeys(table["strategy"], "#000"))
    assert "of head-room" in page and "25 %" in page
    without = summary(static=0.0, duet=0.05)
    assert "head-room" not in summary_table(without, dict.fromkeys(without["strategy"], "#000"))
