"""Codecs of arrays: real bytes out, and the arrays back, found by scanning this folder.

Each file holds one codec, and a protocol has at most one of each stage: a difference from what the
receiver holds, a selection of numbers, a form of numbers, and a form of the bytes of a message.
"""

from cdc_flower.simulations.protocol.codecs.codec import (
    STAGES,
    About,
    ArrayCodec,
    BytesCodec,
    CodecFacts,
    Parts,
    codecs,
)

__all__ = ["STAGES", "About", "ArrayCodec", "BytesCodec", "CodecFacts", "Parts", "codecs"]
