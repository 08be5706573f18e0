"""Interaction files into events: one small reader for each layout of file."""

from cdc_flower.tasks.recommendation.readers.read import read_events

__all__ = ["read_events"]
