"""Plays the round of ``workload.py`` on Flower's Simulation Runtime, in a process of its own.

The app is the same, but it has its model already, as an ordinary Flower app would: no state travels
beside the message, which is the best case for Flower. The first round, which starts Ray, is not
counted.
"""

import json
import logging
import os
import subprocess
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import numpy as np
from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from benchmarks.support import workload
from benchmarks.support.measure import tree_cpu_s
from cdc_flower.devices.app import DeviceApp
from cdc_flower.devices.state import DeviceStates
from cdc_flower.study.flower import wait_for_nodes
from cdc_flower.wire.batch import MessageBatch

COUNTED_ROUNDS = 2
TIMEOUT_S = 900


class PreloadedApp(DeviceApp):
    """A ``DeviceApp`` that needs no deployment and keeps no state."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Answers one message to one node."""
        device_ids = np.array([int(context.node_config["partition-id"])])
        states = DeviceStates(device_ids).deployed(
            workload.base_arrays(self), tuple(self.model.adaptive), {}
        )
        replies, _ = self.handle(MessageBatch.from_messages([message]), states)
        return Message(replies[0].content, reply_to=message)


def play(num_devices: int) -> None:
    """Runs the simulation here and prints CPU seconds of each round."""
    from flwr.simulation import run_simulation

    app = workload.app_of(num_devices)
    client_app = PreloadedApp(app.model, app.stream, app.task)
    server_app = ServerApp()
    seconds: list[float] = []

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        wait_for_nodes(grid)
        node_ids = np.array(list(grid.get_node_ids()), np.uint64)
        own = workload.heads(app, len(node_ids))
        for _ in range(1 + COUNTED_ROUNDS):
            start = tree_cpu_s()
            replies = list(grid.send_and_receive(workload.evaluate(own, node_ids)))
            if len(replies) != num_devices or any(reply.has_error() for reply in replies):
                raise ValueError(
                    f"replies must be {num_devices} without an error, got {len(replies)}"
                )
            seconds.append(tree_cpu_s() - start)

    run_simulation(
        server_app,
        client_app,
        num_supernodes=num_devices,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": 2, "log_to_driver": False},
        },
    )
    print(json.dumps(seconds))


def device_rounds_per_cpu_s(num_devices: int) -> float:
    """Measures device-rounds per CPU second, over all processes of the runtime.

    Raises:
        RuntimeError: If the simulation fails.
    """
    command = [sys.executable, "-m", "benchmarks.support.flower_runtime", str(num_devices)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"the simulation failed:\n{done.stderr[-2000:]}")
    seconds = json.loads(done.stdout.strip().splitlines()[-1])
    return num_devices * COUNTED_ROUNDS / sum(seconds[1:])


if __name__ == "__main__":
    logging.disable(logging.INFO)
    play(int(sys.argv[1]))
