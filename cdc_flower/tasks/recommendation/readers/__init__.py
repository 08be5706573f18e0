"""Readers of interaction files: one small reader for each layout of file."""

from cdc_flower.tasks.recommendation.readers.registry import readers

__all__ = ["readers"]
