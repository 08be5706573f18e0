"""Embedded data: regimes of what follows what; see ``tasks/recommendation/laws/regimes.py``."""

from dataclasses import dataclass
from typing import ClassVar

from cdc_flower.core.options import option
from cdc_flower.tasks.data.contexts import ContextOptions
from cdc_flower.tasks.data.registry import data


@data.register("regimes", gives="items", knows_law=True)
@dataclass(frozen=True, kw_only=True)
class RegimesOptions(ContextOptions):
    """Options of devices whose next topic follows the last one by the regime of the moment.

    Raises:
        UserError: If a value is out of its range.
    """

    builder: ClassVar[str] = "cdc_flower.tasks.recommendation.laws.streams:regimes_of"
    name: str = option("regimes", doc="of the data")
    num_topics: int = option(12, least=2, doc="a regime maps each to another")
    items_per_topic: int = option(20, least=1, doc="items of a topic")
    follow: float = option(
        0.85, least=0, most=1, neutral=0, doc="chance that the next topic follows the regime"
    )

    @property
    def num_items(self) -> int:
        """Counts the items."""
        return self.num_topics * self.items_per_topic
