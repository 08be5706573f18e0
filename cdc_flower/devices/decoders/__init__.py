"""Decoders of parameter payloads: their protocol, and those that methods share."""
