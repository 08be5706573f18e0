"""Static: the base model stays as it was deployed, and adaptations are measured against it."""

from dataclasses import dataclass

from cdc_flower.strategies.base import CloudStrategy
from cdc_flower.strategies.registry import strategies


@strategies.register("static", color="#7f7f7f")
@dataclass(eq=False, repr=False)
class Static(CloudStrategy):
    """No adaptation: nothing is sent, nothing is learned, no label is used."""
