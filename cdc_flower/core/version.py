"""The version of this package, which Flower reads from ``pyproject.toml``; a test holds them equal."""

__version__ = "0.1.0"
