"""Decodes parameter payloads: the protocol of decoders, and those that methods share."""
