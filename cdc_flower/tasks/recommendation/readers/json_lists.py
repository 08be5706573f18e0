"""A JSON object of lists: ``{"user": [item, item, ...]}``, oldest first, without times."""

import json

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.registry import readers
from cdc_flower.tasks.recommendation.readers.rows import Check, Rows, good_rows, shown

_SPACE = " \t\n\r"
RULES = (
    "user must not be empty",
    "user must have a list of at least one item",
    "item must be an integer or a string that is not empty",
)


class _Pairs(list[tuple[str, object]]):
    """Keeps members of a JSON object in order; a dictionary would lose one of two equal keys."""


def _load(text: str, source: str) -> _Pairs:
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        line = text.split("\n")[error.lineno - 1]
        got = line[max(0, error.colno - 20) : error.colno + 40]
        raise UserError(
            f"{source}:{error.lineno}: must be JSON ({error.msg}), got {shown(got)}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise UserError(
            f"{source}: must be JSON of lists of items, got numbers or nesting beyond reason"
        ) from error
    if not isinstance(pairs, _Pairs):
        raise UserError(
            f"{source}:1: must be a JSON object of lists, got {shown(text.lstrip()[:40])}"
        )
    return pairs


def _is_id(value: object) -> bool:
    return type(value) is int or (type(value) is str and bool(value.strip()))


def _skip(text: str, index: int, characters: str) -> int:
    while index < len(text) and text[index] in characters:
        index += 1
    return index


def _line_of(text: str, pairs: _Pairs, row: int) -> int:
    """Finds the line of a mistake in a member: its user, its value, or its first bad item."""
    decode = json.JSONDecoder().raw_decode
    index = text.index("{") + 1
    for _ in range(row + 1):
        start = _skip(text, index, _SPACE + ",")
        _, index = decode(text, start)
        value_start = _skip(text, index, _SPACE + ":")
        _, index = decode(text, value_start)
    user, items = pairs[row]
    if not user.strip():
        return text.count("\n", 0, start) + 1
    start = value_start
    if type(items) is list and items:
        start += 1
        for item in items:
            start = _skip(text, start, _SPACE + ",")
            if not _is_id(item):
                break
            _, start = decode(text, start)
    return text.count("\n", 0, start) + 1


@readers.register("json_lists")
def read_json_lists(text: str, source: str, options: ReaderOptions) -> Rows:
    """Reads a JSON object of lists. The row that is skipped or told is the list of one user.

    Args:
        text: Of the file.
        source: Its name for errors.
        options: Its layout.

    Raises:
        UserError: If the text is no JSON object, or a user is empty, has no list or an empty one,
            or an item is neither an integer nor a string, and ``options.skip_errors`` is false.
    """
    pairs = _load(text, source)
    lists = [items if type(items) is list else [] for _, items in pairs]
    is_list = np.array([len(items) > 0 for items in lists], np.bool_)
    bad_items = [[item for item in items if not _is_id(item)] for items in lists]

    def bad_item(row: int) -> str:
        return shown(json.dumps(bad_items[row][0]))

    checks = [
        Check(
            np.array([bool(user.strip()) for user, _ in pairs], np.bool_),
            RULES[0],
            lambda row: shown(pairs[row][0]),
        ),
        Check(is_list, RULES[1], lambda row: shown(json.dumps(pairs[row][1]))),
        Check(np.array([not bad for bad in bad_items], np.bool_), RULES[2], bad_item),
    ]
    good = good_rows(source, lambda row: _line_of(text, pairs, row), checks, options.skip_errors)
    kept = [(pairs[row][0], lists[row]) for row in np.flatnonzero(good)]
    counts = np.array([len(items) for _, items in kept], np.int64)
    users = np.repeat(np.array([user.strip() for user, _ in kept], dtype=object), counts)
    flat = [str(item).strip() for _, items in kept for item in items]
    return Rows(users, flat, None, num_skipped=int((~good).sum()))
