"""Holds results: writes one long table, reads its cells, and summarizes them."""
