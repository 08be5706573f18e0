"""Gradient steps, scoring, and checkpoints of trained parameters."""
