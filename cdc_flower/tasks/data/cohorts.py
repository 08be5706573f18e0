"""Embedded data: tastes that history never showed; see ``tasks/recommendation/laws/cohorts.py``."""

from dataclasses import dataclass
from typing import ClassVar

from cdc_flower.core.options import option
from cdc_flower.tasks.data.contexts import ContextOptions
from cdc_flower.tasks.data.registry import data


@data.register("cohorts", gives="items", knows_law=True)
@dataclass(frozen=True, kw_only=True)
class CohortsOptions(ContextOptions):
    """Options of devices that choose items in the direction of the taste of the moment.

    Raises:
        UserError: If a value is out of its range.
    """

    builder: ClassVar[str] = "cdc_flower.tasks.recommendation.laws.streams:cohorts_of"
    name: str = option("cohorts", doc="of the data")
    num_contexts: int = option(
        6, least=1, neutral=1, doc="directions in history; a shared one alone: nothing to gain"
    )
    unseen_from: int | None = option(
        2, least=0, doc="segment at which all devices move to unseen contexts; null: never"
    )
    items: int = option(240, least=2, doc="items are 1..items")
    place_size: int = option(6, least=1, doc="numbers of an item's place and of a taste")
    taste_strength: float = option(
        2.0, least=0, neutral=0, doc="of a direction; 0: popularity decides"
    )

    @property
    def num_items(self) -> int:
        """Counts the items."""
        return self.items
