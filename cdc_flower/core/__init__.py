"""Serves every other room, and imports none: errors, seeds, progress, options, registries."""
