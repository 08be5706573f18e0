"""Runs: from a configuration to a folder with results."""
