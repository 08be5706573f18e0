"""Plays a strategy that can be saved, with the states of all that is on the way to its devices."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from cdc_flower.core.errors import UserError
from cdc_flower.core.saveable import (
    FORMAT,
    Arrays,
    Saveable,
    Saved,
    load_arrays,
    nested,
    restore_nested,
    save_arrays,
    taken,
)
from cdc_flower.simulations.grids.through import grids_inside, saved_name
from cdc_flower.study.rounds import RoundLoop


class WithModel(Protocol):
    """Plays Flower's verbs and has a global model of its own to start with."""

    def initial_arrays(self) -> ArrayRecord:
        """Gives the global model that it starts with."""


class Session:
    """Plays a deployed strategy, and can be saved after any round.

    Another process builds the same (the strategy prepared for the same cloud, the same grids around
    each other, the model deployed), sets it to what was saved, and goes on. Rows of the table are
    then the same to the bit.

    Args:
        strategy: Prepared and deployed.
        grid: The outermost grid, which the strategy is given; each knows the grid inside it.
        num_rounds: One for each segment.
    """

    def __init__(self, strategy: WithModel, grid: Grid, num_rounds: int) -> None:
        self.strategy, self.grid, self.num_rounds = strategy, grid, num_rounds
        self.loop = RoundLoop(cast(Strategy, strategy), grid, strategy.initial_arrays())

    @property
    def done(self) -> int:
        """Counts the rounds that are done."""
        return self.loop.done

    def run(
        self,
        until: int | None = None,
        after_round: Callable[["Session"], object] | None = None,
    ) -> Result:
        """Plays the rounds that are not done.

        Args:
            until: The number of the last round; None plays them all.
            after_round: Called after each round; it may save the session.
        """
        last = self.num_rounds if until is None else until
        return self.loop.run(last, None if after_round is None else lambda _: after_round(self))

    def parts(self) -> dict[str, Saveable]:
        """Lists everything that has a state, by its name in a saved session.

        Raises:
            UserError: If something on the way to the devices, or the strategy, cannot be saved.
        """
        links = _named(grids_inside(self.grid))
        parts: dict[str, object] = {"rounds": self.loop, "strategy": self.strategy, **links}
        for part in parts.values():
            if not (hasattr(part, "to_arrays") and hasattr(part, "from_arrays")):
                raise UserError(
                    "a run can be saved if all its parts have to_arrays and from_arrays, "
                    f"got {type(part).__name__}"
                )
        return cast(dict[str, Saveable], parts)

    def to_arrays(self) -> Arrays:
        """Takes the states of all parts, between two rounds.

        Raises:
            UserError: As :meth:`parts`.
        """
        return {"format": np.array(FORMAT), **nested(self.parts())}

    def from_arrays(self, arrays: Saved) -> None:
        """Becomes the saved session. Where something does not fit this one must be built anew.

        Raises:
            UserError: If it was saved in another format, has other parts, or one does not fit.
        """
        written = int(taken(arrays, "format", np.int64, ()))
        if written != FORMAT:
            raise UserError(f"a saved run must be of format {FORMAT}, got {written}")
        parts = self.parts()
        saved = dict.fromkeys(key.partition("/")[0] for key in arrays if "/" in key)
        others = [name for name in saved if name not in parts]
        missing = [name for name in parts if name not in saved and name != "strategy"]
        if others or missing:
            raise UserError(
                f"a saved run must have the parts {', '.join(parts)}, got {', '.join(saved)}"
            )
        restore_nested(parts, arrays)

    def save(self, path: Path) -> None:
        """Writes the session as a safetensors file.

        Raises:
            UserError: As :meth:`parts`.
        """
        save_arrays(path, self.to_arrays())

    def load(self, path: Path) -> None:
        """Becomes the session of a file.

        Raises:
            UserError: As :meth:`from_arrays`, or if it is no such file.
        """
        self.from_arrays(load_arrays(path))


def _named(grids: Iterable[Grid]) -> dict[str, Grid]:
    """Names grids by what they are saved as; a second one of a name is numbered."""
    named: dict[str, Grid] = {}
    for grid in grids:
        name = saved_name(grid)
        count = sum(key.partition(".")[0] == name for key in named)
        named[f"{name}.{count + 1}" if count else name] = grid
    return named
