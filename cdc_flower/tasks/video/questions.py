"""Questions about a scene, their answers, and captions, in the words of the scene's place."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.tasks.video.places import Places
from cdc_flower.tasks.video.scenes import Ints, Scenes

#: Types of questions, in the order of ``Places.question_mix``.
TYPES = ("what", "how_many", "where", "before", "after")
#: Ten words that stand for digits, then counts and directions.
NAMES = ("ada", "bodo", "cleo", "dora", "emil", "fritz", "gesa", "hugo", "ina", "jan")
ANSWERS = (*NAMES, "two", "three", "four", "left", "still", "right")
FIRST_COUNT, FIRST_MOTION = 10, 13
_QUESTIONS = (
    "what is on top",
    "how many are there",
    "where does the top one go",
    "what is at the bottom before",
    "what is at the bottom after",
)
CAPTION = "{top} goes {motion} above {before} then {after}"
WORDS = (
    "",
    *dict.fromkeys(" ".join((*_QUESTIONS, "goes above then", *ANSWERS)).split()),
)  # word 0 is padding
NUM_TOKENS = 7
_ID = {word: index for index, word in enumerate(WORDS)}


def tokens(text: str, length: int = NUM_TOKENS) -> list[int]:
    """Ids of the words of a text, padded on the right with 0."""
    ids = [_ID[word] for word in text.split()]
    return ids + [0] * (length - len(ids))


QUESTION_TOKENS = np.array([tokens(text) for text in _QUESTIONS], np.int32)
_ANSWER_TOKENS = np.array([_ID[word] for word in ANSWERS], np.int32)


@dataclass(frozen=True)
class Told:
    """Holds queries on ``k`` scenes: ``tokens [k, W]``, ``kind [k]``, ``answer [k]``."""

    tokens: NDArray[np.int32]
    kind: Ints
    answer: Ints


def name(places: Places, scene: Scenes, digit: Ints) -> Ints:
    """Names a digit ``[k]`` as it is called where the scene is.

    Args:
        places: Where devices may be.
        scene: ``k`` of them.
        digit: ``[k]``.
    """
    return places.names[scene.place, digit]


def direction(places: Places, scene: Scenes) -> Ints:
    """Says where the highest digit goes ``[k]``; mirrored cameras show left as right."""
    motion = scene.motion[np.arange(len(scene.place)), scene.top]
    return FIRST_MOTION + 1 + np.where(places.is_mirrored[scene.place], -motion, motion)


def ask(places: Places, scene: Scenes, kind: Ints) -> Told:
    """Asks a question of each kind ``[k]``, and tells its answer.

    Args:
        places: Where devices may be.
        scene: ``k`` of them.
        kind: ``[k]``, of the question.
    """
    rows = np.arange(len(kind))
    digits = (scene.digit[rows, scene.top], scene.digit[rows, scene.bottom], scene.after)
    on_top, before, after = (name(places, scene, digit) for digit in digits)
    answers = np.stack(
        [on_top, FIRST_COUNT + scene.count - 2, direction(places, scene), before, after], 1
    )
    return Told(QUESTION_TOKENS[kind], kind, answers[rows, kind])


def describe(places: Places, scene: Scenes) -> Told:
    """A caption of each scene; the answer is the scene itself, so it is its position."""
    rows = np.arange(len(scene.place))
    digits = (scene.digit[rows, scene.top], scene.digit[rows, scene.bottom], scene.after)
    top, before, after = (_ANSWER_TOKENS[name(places, scene, digit)] for digit in digits)
    motion = _ANSWER_TOKENS[direction(places, scene)]
    words = {"top": top, "motion": motion, "before": before, "after": after}
    columns = [
        words[word.strip("{}")] if word.startswith("{") else np.full(len(rows), _ID[word], np.int32)
        for word in CAPTION.split()
    ]
    return Told(np.stack(columns, 1).astype(np.int32), np.zeros(len(rows), np.int64), rows)
