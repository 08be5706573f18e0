"""Plays exchanges on a Ray of its own until something ends it; tests of faults run it.

    python ray_driver.py [ADDRESS]

It plays an exchange for each line of its input, and prints a line after each: how often each device
has been called, and how often it was played again in this exchange. The states of devices are too
large for Ray to hold them beside the store of a node.
"""

import sys
import time

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.grids.ray import RayGrid

NUM_DEVICES = 4

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Counts calls in a large array, and takes its time, so that a node dies in the middle."""
    time.sleep(0.1)
    record = context.state.array_records.get("calls")
    held = np.zeros(100_000) if record is None else record["all"].numpy()
    context.state["calls"] = ArrayRecord({"all": Array(held + 1)})
    counted = MetricRecord({"least": float(held.min()) + 1, "most": float(held.max()) + 1})
    return Message(RecordDict({"calls": counted}), reply_to=message)


def main() -> None:
    grid = RayGrid(
        app,
        np.arange(NUM_DEVICES),
        num_workers=2,
        shard_devices=1,
        address=sys.argv[1] if len(sys.argv) > 1 else None,
    )
    try:
        for _ in sys.stdin:
            asked = [
                Message(RecordDict(), dst_node_id=node, message_type="query")
                for node in grid.get_node_ids()
            ]
            replies = grid.send_and_receive(asked)
            counted = [reply.content.metric_records["calls"] for reply in replies]
            assert all(each["least"] == each["most"] for each in counted)
            print(*(int(each["most"]) for each in counted), *grid.take_replays(), flush=True)
    except UserError as error:
        print(f"cdc-flower: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        grid.close()


if __name__ == "__main__":
    main()
