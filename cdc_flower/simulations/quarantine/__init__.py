"""Quarantine: leaves out what a device must not send, counts it, and sets such a device aside."""
