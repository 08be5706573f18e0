"""Fleets, links, grids and streams: where strategies are played."""
