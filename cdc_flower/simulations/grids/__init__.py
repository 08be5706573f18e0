"""Grids: where messages go to devices, and what stands between."""
