"""The results table: one row per run, device, segment and metric, in one Parquet file a run.

Values are sums and counts, so any group of rows can be merged: add ``value_sum``, add
``value_count``, divide. What a device did in a segment (bytes, latency, labels, seconds) is
*repeated* on the row of each metric; :mod:`cdc_flower.tables.results` reads it once.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from cdc_flower.core.errors import UserError

_TEXT = pa.dictionary(pa.int32(), pa.string())

#: The columns of the file in order, with their types. Seconds are of virtual time, except
#: ``compute_*``.
SCHEMA = pa.schema(
    [
        ("run_id", _TEXT),
        ("experiment", _TEXT),
        ("strategy", _TEXT),
        ("seed", pa.int64()),
        ("task", _TEXT),
        ("device_id", pa.int32()),
        ("segment", pa.int32()),
        ("time_s", pa.float64()),
        ("context_id", pa.int32()),
        ("is_shift", pa.bool_()),
        ("num_examples", pa.int64()),
        ("num_labels", pa.int64()),
        ("metric", _TEXT),
        ("value_sum", pa.float64()),
        ("value_count", pa.float64()),
        ("bytes_up", pa.int64()),
        ("bytes_down", pa.int64()),
        ("latency_s", pa.float64()),
        ("staleness_s", pa.float64()),
        ("compute_cloud_s", pa.float64()),
        ("compute_device_s", pa.float64()),
        ("payload_bytes_up", pa.int64()),
        ("payload_bytes_down", pa.int64()),
        ("flops_cloud", pa.float64()),
        ("flops_device", pa.float64()),
        ("num_reports", pa.int64()),
        ("num_dropped", pa.int64()),
        ("num_late", pa.int64()),
        ("bytes_again", pa.int64()),
    ]
)
COLUMNS: tuple[str, ...] = tuple(SCHEMA.names)
TEXT_COLUMNS = tuple(field.name for field in SCHEMA if field.type == _TEXT)

#: What one device and segment of one strategy is known by.
DEVICE_SEGMENT = ("run_id", "experiment", "strategy", "seed", "task", "device_id", "segment")


def segment_frame(
    *,
    run_id: str,
    experiment: str,
    strategy: str,
    seed: int,
    task: str,
    segment: int,
    time_s: float,
    device_ids: ArrayLike,
    metrics: Sequence[str],
    value_sum: ArrayLike,
    value_count: ArrayLike,
    context_id: ArrayLike,
    is_shift: ArrayLike,
    num_examples: ArrayLike,
    num_labels: ArrayLike,
    bytes_up: ArrayLike,
    bytes_down: ArrayLike,
    payload_bytes_up: ArrayLike,
    payload_bytes_down: ArrayLike,
    latency_s: ArrayLike,
    staleness_s: ArrayLike,
    compute_cloud_s: ArrayLike,
    compute_device_s: ArrayLike,
    flops_cloud: ArrayLike = 0.0,
    flops_device: ArrayLike = 0.0,
    num_reports: ArrayLike = 0,
    num_dropped: ArrayLike = 0,
    num_late: ArrayLike = 0,
    bytes_again: ArrayLike = 0,
) -> pd.DataFrame:
    """The rows of one segment: ``n`` devices times ``M`` metrics, the metrics of a device together.

    Every argument after ``value_count`` is ``[n]`` or a single number for all devices.

    Args:
        time_s: Virtual time at which the segment starts.
        device_ids: ``[n]``.
        metrics: Names of the ``M`` metrics.
        value_sum: ``[n, M]``, and ``value_count``: ``[n, M]``.
        context_id: The hidden context; -1 where nobody knows.
        num_labels: Labels that the device paid for in this segment.
        bytes_up: Bytes on the wire with Flower's framing, device to cloud; ``bytes_down`` the other
            way.
        payload_bytes_up: The raw numbers among them; ``payload_bytes_down`` the other way.
        latency_s: From the shift to new parameters in use; NaN where nothing arrived.
        staleness_s: How long before the segment's start the parameters in use were asked for, a
            mean over it.
        compute_cloud_s: Seconds of computing spent in the cloud on this device;
            ``compute_device_s`` on the device.
        flops_cloud: Floating-point operations of the same; ``flops_device`` on the device.
        num_reports: Reports that the device sent; ``num_dropped``: messages that will never arrive;
            ``num_late``: those to the device that did not arrive in the segment.
        bytes_again: Bytes that were lost and sent again, both ways, beside those above.

    Raises:
        ValueError: If a shape does not fit.
    """
    devices, num_metrics = np.asarray(device_ids), len(metrics)
    shape = (len(devices), num_metrics)
    rows = len(devices) * num_metrics

    def same(text: str) -> Any:
        return pd.Categorical.from_codes(np.zeros(rows, np.int8), pd.Index([text]))

    def each(name: str, values: ArrayLike) -> np.ndarray:
        array = np.asarray(values)
        if array.shape not in ((), (len(devices),)):
            raise ValueError(f"{name} must have shape () or ({len(devices)},), got {array.shape}")
        return np.repeat(np.broadcast_to(array, len(devices)), num_metrics)

    def table(name: str, values: ArrayLike) -> np.ndarray:
        array = np.asarray(values, np.float64)
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
        return array.ravel()

    columns = {
        "run_id": same(run_id),
        "experiment": same(experiment),
        "strategy": same(strategy),
        "seed": np.full(rows, seed, np.int64),
        "task": same(task),
        "device_id": each("device_ids", devices).astype(np.int32),
        "segment": np.full(rows, segment, np.int32),
        "time_s": np.full(rows, time_s, np.float64),
        "context_id": each("context_id", context_id).astype(np.int32),
        "is_shift": each("is_shift", is_shift).astype(np.bool_),
        "num_examples": each("num_examples", num_examples).astype(np.int64),
        "num_labels": each("num_labels", num_labels).astype(np.int64),
        "metric": pd.Categorical.from_codes(
            np.tile(np.arange(num_metrics), len(devices)), pd.Index(list(metrics))
        ),
        "value_sum": table("value_sum", value_sum),
        "value_count": table("value_count", value_count),
        "bytes_up": each("bytes_up", bytes_up).astype(np.int64),
        "bytes_down": each("bytes_down", bytes_down).astype(np.int64),
        "latency_s": each("latency_s", latency_s).astype(np.float64),
        "staleness_s": each("staleness_s", staleness_s).astype(np.float64),
        "compute_cloud_s": each("compute_cloud_s", compute_cloud_s).astype(np.float64),
        "compute_device_s": each("compute_device_s", compute_device_s).astype(np.float64),
        "payload_bytes_up": each("payload_bytes_up", payload_bytes_up).astype(np.int64),
        "payload_bytes_down": each("payload_bytes_down", payload_bytes_down).astype(np.int64),
        "flops_cloud": each("flops_cloud", flops_cloud).astype(np.float64),
        "flops_device": each("flops_device", flops_device).astype(np.float64),
        "num_reports": each("num_reports", num_reports).astype(np.int64),
        "num_dropped": each("num_dropped", num_dropped).astype(np.int64),
        "num_late": each("num_late", num_late).astype(np.int64),
        "bytes_again": each("bytes_again", bytes_again).astype(np.int64),
    }
    return pd.DataFrame(columns)


class ResultsWriter:
    """Writes a results file, one row group per ``append``. Use it in a ``with`` block.

    Leaving the block, also by an exception or Ctrl-C, closes the file: what was appended is
    readable.

    Args:
        path: The file; its folder must exist. An older file is replaced.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        try:
            self._writer = pq.ParquetWriter(
                self._path, SCHEMA, compression="zstd", use_dictionary=True
            )
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"{self._path}: the results file cannot be written ({reason})"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def append(self, frame: pd.DataFrame) -> None:
        """Write the rows of a :func:`segment_frame`, or several of them joined.

        Raises:
            ValueError: If the writer is not open, or the columns are not ``COLUMNS``.
        """
        if self._writer is None:
            raise ValueError(
                f"append must be called inside `with ResultsWriter({str(self._path)!r})`"
            )
        if tuple(frame.columns) != COLUMNS:
            odd = sorted(set(frame.columns) ^ set(COLUMNS))
            raise ValueError(
                f"frame must have the columns of results.COLUMNS in order, got {odd or 'another order'}"
            )
        self._writer.write_table(_table(frame))


def _table(frame: pd.DataFrame) -> pa.Table:
    """A frame as an Arrow table with the types of ``SCHEMA``."""
    arrays = []
    for field in SCHEMA:
        column = frame[field.name]
        if field.type == _TEXT:
            column = column.astype("category")
            codes = pa.array(column.cat.codes.to_numpy(), pa.int32())
            names = pa.array([str(name) for name in column.cat.categories], pa.string())
            arrays.append(pa.DictionaryArray.from_arrays(codes, names))
        else:
            # from_pandas=False keeps NaN as NaN instead of a null
            arrays.append(pa.array(column.to_numpy(), field.type, from_pandas=False))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)
