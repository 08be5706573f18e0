"""Labels that hostile devices flip, because an attack behind the links tells them to."""

import numpy as np
from tiny import stream
from video_tiny import video_stream

from cdc_flower.core.stream import LabelledBatch, TruthReader
from cdc_flower.devices.label_flips import as_told
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

EVERYONE = np.arange(4)


def examples() -> LabelledBatch:
    return stream().labelled(TruthReader(), EVERYONE, 2, 3, 4)


def told(flips: list[int] | None) -> MessageBatch:
    configs = {} if flips is None else {records.ATTACK: {records.FLIPS_LABELS: np.array(flips)}}
    return MessageBatch(records.TRAIN, EVERYONE + 2, configs=configs)


def test_a_device_that_is_told_nothing_keeps_its_labels() -> None:
    given = examples()
    assert as_told(given, told(None), EVERYONE) is given
    same = as_told(given, told([0, 0, 0, 0]), EVERYONE)
    np.testing.assert_array_equal(same.candidates, given.candidates)


def test_the_last_of_the_others_takes_the_place_of_the_true_one() -> None:
    given = examples()
    flipped = as_told(given, told([0, 1, 0, 1]), EVERYONE)
    is_told = np.isin(given.row, [1, 3])
    np.testing.assert_array_equal(flipped.candidates[~is_told], given.candidates[~is_told])
    np.testing.assert_array_equal(flipped.candidates[is_told, 0], given.candidates[is_told, -1])
    np.testing.assert_array_equal(flipped.candidates[is_told, -1], given.candidates[is_told, 0])
    np.testing.assert_array_equal(flipped.candidates[:, 1:-1], given.candidates[:, 1:-1])
    assert is_told.any() and (flipped.history == given.history).all()


def test_rows_of_some_devices_are_found_among_the_messages_of_all() -> None:
    rows = np.array([1, 2])
    given = stream().labelled(TruthReader(), rows, 2, 3, 4)
    flipped = as_told(given, told([1, 0, 1, 1]), rows)
    changed = (flipped.candidates != given.candidates).any(1)
    np.testing.assert_array_equal(changed, given.row == 1)  # the second of them, device 2


def test_answers_of_clips_flip_too() -> None:
    given = video_stream().labelled(TruthReader(), EVERYONE, 2, 4, 0)
    flipped = as_told(given, told([1, 1, 1, 1]), EVERYONE)
    assert (flipped.candidates[:, 0] == given.candidates[:, -1]).all()
