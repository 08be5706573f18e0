"""The base of attacks, and what attackers see: all that goes on in one exchange."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import check_options, option
from cdc_flower.core.registry import NoFacts, Registry
from cdc_flower.core.saveable import Arrays, Saved
from cdc_flower.core.seeds import generator
from cdc_flower.core.targets import derived_from
from cdc_flower.wire.batch import MessageBatch

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """Holds all that attackers know of a run beside its messages.

    Attributes:
        num_items: Of the stream; ids are from 1.
        popularity: Counts events of the historical part by item, ``[num_items + 1]``.
        contexts: Devices ``[k]`` and segment -> their hidden contexts ``[k]``; -1 where nobody
            knows.
    """

    num_items: int
    popularity: Callable[[], NDArray[np.int64]]
    contexts: Callable[[Ints, int], Ints]


@dataclass(frozen=True)
class Exchange:
    """Replies of one type to what was sent together, as attackers see them.

    Attributes:
        replies: ``[k]``, without errors, as the devices would answer that obey.
        device_ids: ``[k]``.
        is_hostile: ``[k]``, at least one of them.
        sent: The model that each was sent to train, ``[k, ...]`` by name; {} where none was.
        segment: Of the messages.
        draws: Of this exchange alone, so that a run that goes on draws the same.
        scene: The rest.
    """

    replies: MessageBatch
    device_ids: Ints
    is_hostile: Bools
    sent: Arrays
    segment: int
    draws: np.random.Generator
    scene: Scene


@dataclass(eq=False)
class Attack(ABC):
    """Says which devices are hostile, and what they do.

    It may remember replies, so each run of a strategy has one of its own.

    Raises:
        UserError: If a value is out of its range.
    """

    name: str = option("", doc="of the attack")

    def __post_init__(self) -> None:
        check_options(self, "attack")

    @abstractmethod
    def hostile(self, num_devices: int, seed: int) -> Bools:
        """Tells which devices ``[n]`` of a run are hostile, the same for all of its strategies.

        Args:
            num_devices: n.
            seed: Of the run.
        """

    def instructed(self, asked: MessageBatch, is_hostile: Bools) -> MessageBatch:
        """Changes what devices ``[k]`` are told, behind the links; nothing by default."""
        return asked

    def attacked(self, exchange: Exchange) -> MessageBatch:
        """Changes the replies of hostile devices; nothing by default."""
        return exchange.replies

    def to_arrays(self) -> Arrays:
        """Takes what it remembers. Nothing by default."""
        return {}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with what was saved.

        Raises:
            UserError: If that is of an attack that remembers something, and this one does not.
        """
        if arrays:
            raise UserError(
                f"a saved attack must be {type(self).__name__}, got one with {next(iter(arrays))}"
            )


@dataclass(eq=False)
class HostileAttack(Attack):
    """Makes a share of the devices hostile, drawn by the seed of the run."""

    share: float = option(
        0.2, least=0, most=0.5, neutral=0, doc="of the devices that are hostile; 0: none"
    )
    seed: int | None = option(
        None, least=0, doc="by which hostile devices are drawn; null: that of the run"
    )

    def hostile(self, num_devices: int, seed: int) -> Bools:
        """Draws the hostile devices.

        Args:
            num_devices: n.
            seed: Of the run.
        """
        draws = generator(seed if self.seed is None else self.seed, "attack")
        found = np.zeros(num_devices, np.bool_)
        found[draws.permutation(num_devices)[: round(self.share * num_devices)]] = True
        return found


attacks: Registry[type[Attack], NoFacts] = Registry(
    "attack", "attacks", NoFacts, "cdc_flower.simulations.attacks", derived_from(Attack)
)
