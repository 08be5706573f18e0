"""Batches and records as named arrays, for saved runs; what comes back is the same to the bit."""

from typing import Any

import numpy as np
from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as Proto
from numpy.typing import NDArray

from cdc_flower.core.packing import packed, unpacked
from cdc_flower.core.saveable import Arrays, Saved
from cdc_flower.wire.identity import Identity
from cdc_flower.wire.parts import BatchParts


def batch_arrays(batch: BatchParts) -> Arrays:
    """Takes everything that makes a batch, its ids and times too."""
    parts = {name: value for name, value in vars(batch).items() if name != "cloud"}
    return packed({**parts, "cloud": vars(batch.cloud)})


def batch_parts(arrays: Saved) -> dict[str, Any]:
    """Reads the arguments of the batch that :func:`batch_arrays` took.

    Raises:
        UserError: If something is missing.
    """
    parts = unpacked(arrays)
    return {**parts, "cloud": Identity(**parts["cloud"])}


def content_array(content: RecordDict) -> NDArray[np.uint8]:
    """Holds records as the bytes that Flower sends of them."""
    return np.frombuffer(recorddict_to_proto(content).SerializeToString(), np.uint8).copy()


def content_of(data: NDArray[np.uint8]) -> RecordDict:
    """Reads the records that :func:`content_array` holds."""
    return recorddict_from_proto(Proto.FromString(data.tobytes()))
