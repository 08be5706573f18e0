"""Tells damage of a file in one sentence: which file, what it must be, and what is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

from cdc_flower.core.errors import UserError

_LONGEST_REASON = 100


class DamagedFile(UserError):
    """Reports a file that is not whole, not of its format, or larger than is read.

    ``on_error=skip`` leaves it out. What is missing as a whole, such as a library or a folder, is
    another :class:`UserError`.
    """


@contextmanager
def whole(name: object, kind: str) -> Iterator[None]:
    """Tells whatever a library raises on the bytes of a file as damage of that file.

    Libraries raise errors of nearly every class on bytes that nobody wrote for them.

    Args:
        name: Of the file that is read in the block, or of the member of an archive.
        kind: What it must be, such as ``gzip file``.

    Raises:
        DamagedFile: In place of any other error than a :class:`UserError`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise DamagedFile(f"{name}: must be a whole {kind} ({reason_of(error)})") from error


def reason_of(error: Exception) -> str:
    """Puts an error of a library in a line, without the path that stands in it."""
    if isinstance(error, EOFError):
        return "it ends too soon"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:_LONGEST_REASON]
