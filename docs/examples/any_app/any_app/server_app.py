"""Stock FedAvg. The lines marked 1, 2 and 3 are all that recorded links take."""

import json
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from cdc_flower.study.any_app import under_trace  # 1

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Three rounds, and how long each took on these links."""
    links = under_trace(grid, str(context.run_config["trace"]))  # 2
    arrays = ArrayRecord([np.zeros(10_000, np.float32)])
    result = FedAvg().start(grid=links, initial_arrays=arrays, num_rounds=3)  # 3: not grid
    rounds = [[one.start_s, one.end_s, int(one.usage.bytes_up.sum())] for one in links.rounds]
    first = float(result.arrays.to_numpy_ndarrays()[0].flat[0])
    Path(str(context.run_config["out"])).write_text(
        json.dumps({"rounds": rounds, "first": first}), encoding="utf-8"
    )
