"""DUET: full generation of the adaptive layers in the cloud."""

from cdc_flower.strategies.duet.strategy import Duet

__all__ = ["Duet"]
