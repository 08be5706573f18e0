"""Opens Flower's door to the cloud: ``flwr run .`` and a SuperLink load this file."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from cdc_flower.simulations.grids.flower import FlowerGrid
from cdc_flower.study.flower import config_of, wait_for_nodes
from cdc_flower.study.run import run

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Plays the configured strategies on the nodes of the grid.

    The run folder is as ``cdc-flower`` makes it.
    """
    node_ids = wait_for_nodes(grid, at_least=int(context.run_config["num-nodes"]))
    config = config_of(context.run_config, len(node_ids))
    print(f"run folder: {run(config, grid=FlowerGrid(grid, node_ids))}")
