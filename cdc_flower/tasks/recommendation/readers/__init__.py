"""Interaction files into events: one small reader for each layout of file."""

from cdc_flower.tasks.recommendation.readers.read import read_events
from cdc_flower.tasks.recommendation.readers.registry import readers

__all__ = ["read_events", "readers"]
