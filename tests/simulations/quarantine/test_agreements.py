"""What most devices have in common, what is known beforehand, and pictures that are none."""

from collections.abc import Sequence

import numpy as np
import pytest
from hostile_cases import HOSTILE, Hostile, Kind, Made, Seen
from quarantine_cases import DEVICE, played

from cdc_flower.simulations.chain import AtDevices
from cdc_flower.simulations.quarantine import reasons
from cdc_flower.simulations.quarantine.identity import Rows
from cdc_flower.simulations.quarantine.schema import Agreements, Schema, difference, schema_of
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.finite import is_finite

TYPE = records.TRAIN_REPORT


def report(width: int = 3, key: str = "history", dtype: type = np.int32) -> Schema:
    batch = MessageBatch(TYPE, np.array([2]), {"report": {key: np.ones((1, width), dtype)}})
    return schema_of(batch, batch.record_names())


A, WIDER, OTHER = report(), report(width=4), report(key="frames")


@pytest.mark.parametrize(
    ("exchanges", "agreed"),
    [
        ([[(A, 3), (WIDER, 1)]], A),
        ([[(A, 3)], [(WIDER, 3), (A, 1)]], WIDER),  # lengths may change
        ([[(A, 3)], [(WIDER, 1), (A, 1)]], A),  # of two alike what was before
        ([[(A, 3)], [(OTHER, 1)]], A),  # one device alone brings in nothing
        ([[(A, 3)], [(OTHER, 2)]], OTHER),  # an app that changes
        ([[(A, 3)], [(OTHER, 2), (A, 1)]], A),  # but not beside one that does not
        ([[(A, 3)], []], A),
        ([[]], frozenset()),
    ],
)
def test_a_device_alone_brings_in_no_other_schema(
    exchanges: Sequence[Sequence[tuple[Schema, int]]], agreed: Schema
) -> None:
    agreements = Agreements()
    found = [agreements.of(TYPE, votes) for votes in exchanges]
    assert found[-1] == agreed
    again = Agreements()
    again.from_arrays(agreements.to_arrays())
    assert again.of(TYPE, []) == agreements.of(TYPE, [])
    assert again.of("train", []) == frozenset()


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (A, ""),
        (WIDER, reasons.SHAPE),
        (report(dtype=np.int64), reasons.DTYPE),
        (OTHER, reasons.KEY),
        (A | OTHER, reasons.KEY),
        (frozenset(), reasons.RECORD),
    ],
)
def test_the_coarsest_difference_is_named(schema: Schema, reason: str) -> None:
    assert difference(schema, A) == reason


def test_runs_of_bytes_may_differ_in_length_and_pictures_in_nothing_else() -> None:
    assert report(dtype=np.uint8) == report(width=9, dtype=np.uint8)
    assert report(dtype=np.uint16) != report(width=9, dtype=np.uint16)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
def test_one_number_that_is_not_finite_is_found(value: float, dtype: type) -> None:
    values = np.ones((3, 4, 5), dtype)
    values[1, 2, 3] = value
    assert is_finite(values).tolist() == [True, False, True]
    largest = np.finfo(dtype).max
    assert is_finite(np.full((2, 7), largest, dtype)).all()
    assert is_finite(np.ones((2, 0), dtype)).all() and is_finite(np.ones(2, np.int64)).all()


@pytest.mark.parametrize("node_ids", [[2, 3, 4], [7, 3, 2**63 + 5]])
def test_rows_of_nodes_whether_they_are_numbered_or_not(node_ids: list[int]) -> None:
    rows = Rows(np.array(node_ids, np.uint64))
    assert rows.of(np.array(node_ids[::-1], np.uint64)).tolist() == [2, 1, 0]
    assert rows.of(np.array([1, 5, 2**64 - 1], np.uint64)).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_a_picture_that_is_none_is_left_out(form: str) -> None:
    def garbage(batch: MessageBatch, _: Hostile) -> Made:
        told = {key: value[:, ::-1] for key, value in batch.arrays[records.REPORT].items()}
        return [batch.with_records(arrays={records.REPORT: told})]

    seen = Seen()
    kind = Kind(garbage, reasons.UNREADABLE)
    rows, quarantine = played(
        "video",
        "cdc_mmpg",
        [AtDevices(lambda grid: Hostile(grid, kind, (1,), seen))],
        settings={"form": form},
    )
    assert seen.places == [(1, TYPE)] and HOSTILE == DEVICE + 2
    assert [(one.device_id, one.segment, one.reason) for one in quarantine.left_out()] == [
        (DEVICE, 1, reasons.UNREADABLE)
    ]
    assert np.isfinite(rows.value_sum).all()
