"""Trains by gradient steps, scores, and keeps checkpoints of trained parameters."""
