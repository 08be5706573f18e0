"""The static model: the baseline that nothing adapts."""

from cdc_flower.strategies.static.strategy import Static

__all__ = ["Static"]
