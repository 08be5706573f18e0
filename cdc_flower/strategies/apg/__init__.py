"""APG: low-rank cores of adaptive layers."""

from cdc_flower.strategies.apg.strategy import Apg

__all__ = ["Apg"]
