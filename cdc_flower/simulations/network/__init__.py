"""Traces, links, shared cells and cloud workers, between devices and the cloud in virtual time."""
