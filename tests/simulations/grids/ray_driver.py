"""Plays exchanges on a Ray of its own until something ends it; tests of faults run it.

    python ray_driver.py [ADDRESS]

It prints a line after each exchange: how often each device has been called.
"""

import sys

import numpy as np
from flwr.app import Message, RecordDict
from tiny import counting_app

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.grids.ray import RayGrid

NUM_DEVICES = 4


def main() -> None:
    grid = RayGrid(
        counting_app(),
        np.arange(NUM_DEVICES),
        num_workers=2,
        shard_devices=1,
        address=sys.argv[1] if len(sys.argv) > 1 else None,
    )
    try:
        while True:
            asked = [
                Message(RecordDict(), dst_node_id=node, message_type="query")
                for node in grid.get_node_ids()
            ]
            replies = grid.send_and_receive(asked)
            calls = [int(reply.content["state"]["calls"]) for reply in replies]  # type: ignore[call-overload,arg-type]
            print(*calls, *grid.take_replays(), flush=True)
    except UserError as error:
        print(f"cdc-flower: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        grid.close()


if __name__ == "__main__":
    main()
