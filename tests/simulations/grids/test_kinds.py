"""Kinds of grids by name, with their options, and one of a user's own."""

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from numpy.typing import NDArray
from tiny import app, fleet, stream

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import option
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.kinds import grids
from cdc_flower.study.setup import Setup, grid_of
from cdc_flower.tasks.recommendation.task import RECOMMENDATION


def setup() -> Setup:
    return Setup(stream(), app().model, fleet(), {}, [], RECOMMENDATION)


def test_a_grid_is_made_by_its_name() -> None:
    grid = grid_of({"grid": {"name": "inline", "num_workers": 1}}, setup())
    assert isinstance(grid, InlineGrid)
    assert grid.get_node_ids() == [2, 3, 4, 5]
    with pytest.raises(UserError, match=r"unknown grid 'inlin'; did you mean 'inline'\?"):
        grid_of({"grid": {"name": "inlin"}}, setup())


def test_ray_is_imported_where_a_grid_needs_it() -> None:
    code = (
        "import sys; from cdc_flower.simulations.grids.kinds import grids; "
        "print(list(grids), 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['inline', 'ray'] False"


def test_a_grid_of_a_users_own_is_made_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "_entries", {entry.name: entry for entry in grids.entries()})

    @grids.register("some")
    @dataclass(frozen=True, kw_only=True)
    class Some:
        """The first devices alone."""

        name: str = option("some", doc="some")
        num_devices: int = option(least=1, doc="that are played")

        def grid(self, app: ClientApp, device_ids: NDArray[np.int64]) -> Grid:
            return InlineGrid(app, device_ids[: self.num_devices])

    grid = grid_of({"grid": {"name": "some", "num_devices": 2}}, setup())
    assert list(grid.get_node_ids()) == [2, 3]
