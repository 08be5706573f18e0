"""Errors, seeds, progress and the protocol of a stream: imported by all other rooms, and importing none."""
