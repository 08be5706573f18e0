"""The share of head-room: how much of what knowing the context would give a strategy reaches.

(strategy - baseline) / (oracle - baseline), of one metric, over devices and seeds that both have.
Only where an ``oracle`` was scored; its own share is 1, and the baseline's is 0.
"""

import numpy as np
import pandas as pd

ORACLE = "oracle"
#: The metric of which the share is, and the column of the summary that holds it.
METRIC = "ndcg@10"
HEAD_ROOM = "head_room"
_GROUP = ["run", "task", "metric"]


def with_head_room(summary: pd.DataFrame) -> pd.DataFrame:
    """Adds the column to a summary in which an oracle was scored; any other stays as it is.

    It is NaN where there is no head-room: no baseline or an oracle that is not above it.
    """
    oracle = summary[(summary["strategy"] == ORACLE) & (summary["metric"] == METRIC)]
    if oracle.empty:
        return summary
    room = oracle.set_index(_GROUP)["diff"].where(lambda diff: diff > 0)
    keys = pd.MultiIndex.from_frame(summary[_GROUP])
    return summary.assign(**{HEAD_ROOM: summary["diff"].to_numpy() / room.reindex(keys).to_numpy()})


def share_text(rows: pd.DataFrame) -> str:
    """Writes the share of the strategy whose rows these are, such as ``45 %``."""
    found = rows.loc[rows["metric"] == METRIC, HEAD_ROOM]
    value = float(found.iloc[0]) if len(found) else np.nan
    return f"{value:.0%}".replace("%", " %") if np.isfinite(value) else "–"
