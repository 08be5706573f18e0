"""The first row of a file: names of columns, or an event."""

from collections.abc import Sequence

from cdc_flower.tasks.recommendation.readers.rows import is_number

_ALSO = {
    "time": {"timestamp", "times"},
    "user": {"userid", "uid"},
    "item": {"itemid", "iid", "items"},
}


def names_column(word: str, column: str) -> bool:
    """Tells whether a word is the name of a column, such as ``user_id`` or ``Timestamp:float``."""
    plain = (
        word.split(":")[0].lower().strip(" \"'").replace("_", "").replace("-", "").replace(" ", "")
    )
    return plain == column or plain in _ALSO.get(column, ())


def _is_integer(text: str) -> bool:
    return text.isascii() and text.strip().removeprefix("-").isdecimal()


def is_header(words: Sequence[str], columns: Sequence[str], second: Sequence[str] | None) -> bool:
    """Tells whether the first row is a header rather than an event.

    It is if its words are the names of the columns. It also is if none of its words is a number and
    either a rating or time ought to be one, or all ids in the second row are integers. A malformed
    first row, such as ``1 2 4 yesterday``, has numbers in it and is not mistaken for a header.

    Args:
        words: The fields of the first row.
        columns: What each column is; ``_`` is ignored.
        second: The fields of the second row, if there is one.
    """
    if len(words) != len(columns):
        return False
    used = [
        (word.strip(), column) for word, column in zip(words, columns, strict=True) if column != "_"
    ]
    if all(names_column(word, column) for word, column in used):
        return True
    if any(is_number(word) or not word for word, _ in used):
        return False
    numeric = [word for word, column in used if column in ("rating", "time")]
    if numeric:
        return all(any(character.isalpha() for character in word) for word in numeric)
    if second is None or len(second) != len(columns):
        return False
    return all(
        _is_integer(word) for word, column in zip(second, columns, strict=True) if column != "_"
    )
