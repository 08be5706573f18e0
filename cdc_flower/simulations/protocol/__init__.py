"""Lighter protocols for any strategy: payloads are encoded before the link and decoded behind it."""

from cdc_flower.simulations.grids.codecs import Lighter

__all__ = ["Lighter"]
