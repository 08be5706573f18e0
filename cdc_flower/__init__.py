"""Adapts thousands of device models from the cloud, without back-propagation on the device."""

from cdc_flower.core.version import __version__

__all__ = ["__version__"]
