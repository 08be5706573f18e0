"""Holds the package's version; Flower reads it from ``pyproject.toml``, and a test compares."""

__version__ = "0.1.0"
