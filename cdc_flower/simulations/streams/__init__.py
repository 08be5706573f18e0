"""Streams of events: what each device sees in time."""
