"""Lighter payloads: codecs, and the versions from which differences are taken."""
