"""Decoders of parameter payloads that several methods share."""
