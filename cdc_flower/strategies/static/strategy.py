"""Static: the base model stays as it was deployed. The line that every adaptation is measured against."""

from cdc_flower.strategies.base import CloudStrategy


class Static(CloudStrategy):
    """No adaptation: nothing is sent, nothing is learned, no label is used."""
