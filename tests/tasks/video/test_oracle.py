"""The embedded questions can be answered from the pixels by who knows the place, and not from their
words.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.svm import SVC

from cdc_flower.tasks.data.moving_digits import DigitsOptions
from cdc_flower.tasks.video.moving_digits import DrawnClips, digits_stream
from cdc_flower.tasks.video.places import CELL, SIDE, Places
from cdc_flower.tasks.video.questions import FIRST_COUNT, FIRST_MOTION, TYPES
from cdc_flower.tasks.video.render import _blur, sprites

STREAM = digits_stream(40, 4, seed=3)
CLIPS: DrawnClips = STREAM.table.clips  # type: ignore[assignment]


def ink(clip_ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """``[k, n, 4, 4, 64]``: what is left of each cell when the background of the place is taken
    off.
    """
    places, place = CLIPS.places, CLIPS.scene(clip_ids).place
    seen = (
        CLIPS.frames(clip_ids).astype(np.float32) / 255 / places.light[place][:, None, None, None]
    )
    background = places.background[place][:, None] + 1e-3
    gain = np.median(seen / background, axis=(2, 3), keepdims=True)
    wall = np.minimum(background * gain, 0.95)
    weight = (1 - wall) ** 2
    shown = ((seen - wall) / (1 - wall) * weight).sum(-1) / weight.sum(-1)
    cells = shown.reshape(*shown.shape[:2], SIDE, CELL, SIDE, CELL).transpose(0, 1, 2, 4, 3, 5)
    return cells.reshape(*shown.shape[:2], SIDE, SIDE, CELL * CELL)


def reader() -> SVC:
    """Reads digits as they are written in the historical part, sharp and blurred."""
    images = [part[: len(part) // 2] for part in sprites()]
    written = np.concatenate(images)
    padded = np.zeros((len(written), 1, 3 * CELL, 3 * CELL, 1), np.float32)
    padded[:, 0, CELL : 2 * CELL, CELL : 2 * CELL, 0] = written
    soft = _blur(padded)[:, 0, CELL : 2 * CELL, CELL : 2 * CELL, 0]
    digits = np.repeat(np.arange(10), [len(part) for part in images])
    examples = np.concatenate([written, soft]).reshape(-1, CELL * CELL)
    return SVC(C=10).fit(examples, np.concatenate([digits, digits]))


def oracle(clip_ids: NDArray[np.int64], kind: NDArray[np.int64]) -> NDArray[np.int64]:
    """Answers from pixels, the kind of question, and the place."""
    places, place, cells, read = CLIPS.places, CLIPS.scene(clip_ids).place, ink(clip_ids), reader()
    k, frames = np.arange(len(clip_ids)), cells.shape[1]
    mass = cells.mean(-1)  # [k, n, row, column]
    there = mass.max(-1).mean(1) > 0.17
    column = mass.argmax(-1)  # [k, n, row]
    top, bottom = there.argmax(1), SIDE - 1 - there[:, ::-1].argmax(1)

    def digit(row: NDArray[np.int64], which: list[int]) -> NDArray[np.int64]:
        shown = [cells[k, frame, row, column[k, frame, row]] for frame in which]
        return read.predict(np.mean(shown, axis=0))

    turn = (frames + 1) // 2
    digits = (
        digit(top, list(range(turn))),
        digit(bottom, list(range(turn))),
        digit(bottom, list(range(turn, frames))),
    )
    move = np.sign(column[k, -1, top] - column[k, 0, top])
    move = np.where(places.is_mirrored[place], -move, move)
    named = [places.names[place, part] for part in digits]
    answers = np.stack(
        [named[0], FIRST_COUNT + there.sum(1) - 2, FIRST_MOTION + 1 + move, named[1], named[2]], 1
    )
    return answers[k, kind]


@pytest.mark.slow
def test_an_oracle_that_knows_the_place_answers_from_the_pixels() -> None:
    clip_ids = np.concatenate(
        [STREAM.segment(np.arange(40), segment).history[:, 0] for segment in range(4)]
    )
    kind = CLIPS.kind[clip_ids]
    is_right = oracle(clip_ids, kind) == CLIPS.answer[clip_ids]
    by_kind = [is_right[kind == value].mean() for value in range(5)]
    assert is_right.mean() > 0.95, by_kind


def test_the_words_of_a_question_alone_do_not_answer_it() -> None:
    past, now = STREAM.historical().queries, np.arange(CLIPS.num_queries)
    now = np.setdiff1d(now, past)
    best = np.array(
        [
            np.bincount(CLIPS.answer[past][CLIPS.kind[past] == kind], minlength=16).argmax()
            for kind in range(5)
        ]
    )
    share = (best[CLIPS.kind[now]] == CLIPS.answer[now]).mean()
    assert share < 0.35, share
    print(share)


def test_without_the_place_the_same_pixels_have_other_answers() -> None:
    names = CLIPS.places.names
    assert len(np.unique(names, axis=0)) == CLIPS.places.num_places
    assert (names != names[:1]).mean() > 0.7


def test_where_all_places_name_alike_they_only_look_different() -> None:
    """``num_namings=1``: the same scene has the same answer everywhere, in other colors."""
    several, one = (Places(seed=3, num_namings=count) for count in (12, 1))
    np.testing.assert_array_equal(one.names, np.tile(np.arange(10), (one.num_places, 1)))
    assert not one.is_mirrored.any() and several.is_mirrored.any()
    np.testing.assert_array_equal(one.background, several.background)
    np.testing.assert_array_equal(one.digit_mix, several.digit_mix)
    assert len(np.unique(one.background.reshape(one.num_places, -1), axis=0)) == one.num_places
    streams = [digits_stream(4, 2, DigitsOptions(num_namings=count), seed=3) for count in (12, 1)]
    clip_ids = np.arange(streams[0].table.clips.num_clips)
    np.testing.assert_array_equal(*[stream.table.clips.frames(clip_ids) for stream in streams])
    is_count = streams[0].table.kind == TYPES.index("how_many")
    differs = streams[0].table.answer != streams[1].table.answer
    assert differs[~is_count].mean() > 0.5 and not differs[is_count].any()
