"""Plays the device side: the app, its states, and decoders of payloads."""
