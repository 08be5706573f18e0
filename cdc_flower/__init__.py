"""Adapt thousands of device models from the cloud, without back-propagation on the device, in Flower."""

__version__ = "0.1.0"
