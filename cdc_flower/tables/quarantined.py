"""Replies that were left out: rows of ``quarantine.csv``, and words about them."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import pandas as pd

from cdc_flower.core.errors import UserError

#: Of the file. Device -1 stands for a node that is none of the run.
COLUMNS = ("task", "strategy", "segment", "device_id", "reason", "count")


@dataclass(frozen=True)
class Left:
    """Counts replies of a device in a segment that were left out for one reason."""

    segment: int
    device_id: int
    reason: str
    count: int


def frame_of(task: str, strategy: str, left: Iterable[Left]) -> pd.DataFrame:
    """Makes the rows of one strategy.

    Args:
        task: That it plays.
        strategy: Its name.
        left: What was left out.
    """
    return pd.DataFrame([(task, strategy, *astuple(each)) for each in left], columns=[*COLUMNS])


def counted(number: int, one: str, several: str) -> str:
    """Writes a number with its noun.

    Args:
        number: Of things.
        one: Its noun for one.
        several: Its noun for any other number.
    """
    return f"{number:,} {one if number == 1 else several}"


def sentence(left: Sequence[Left]) -> str:
    """Says how many replies of whom were left out and why, without a full stop."""
    reasons: dict[str, int] = {}
    for each in left:
        reasons[each.reason] = reasons.get(each.reason, 0) + each.count
    most = sorted(reasons, key=lambda name: -reasons[name])
    why = ", ".join(f"{name}: {reasons[name]}" for name in most)
    num_replies = sum(reasons.values())
    whose = counted(len({each.device_id for each in left}), "device", "devices")
    verb = "was" if num_replies == 1 else "were"
    return f"{counted(num_replies, 'reply', 'replies')} of {whose} {verb} left out ({why})"


def read_quarantined(path: Path) -> pd.DataFrame:
    """Reads the file; without one there are no rows.

    Raises:
        UserError: If it is no such file.
    """
    if not path.is_file():
        return frame_of("", "", ())
    try:
        found = pd.read_csv(path, dtype={"task": str, "strategy": str, "reason": str})
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a readable list of replies ({error})") from error
    if list(found.columns) != [*COLUMNS]:
        raise UserError(f"{path}: must have the columns {', '.join(COLUMNS)}")
    return found
