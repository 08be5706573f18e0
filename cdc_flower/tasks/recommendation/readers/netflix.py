"""Netflix's blocks of ratings: ``ITEM:`` on a line, then its ``user,rating,date`` lines."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.recommendation.readers.blocks import read_blocks
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.registry import readers
from cdc_flower.tasks.recommendation.readers.rows import Rows, shown
from cdc_flower.tasks.recommendation.readers.times import iso_s

_RULE = "a line must be ITEM: or user,rating,date, after a line ITEM:"


@readers.register("netflix", reads="parts")
def read_netflix(path: Path, options: ReaderOptions) -> Iterator[Rows]:
    """Reads the blocks of a file.

    Args:
        path: Of the file.
        options: Its layout.

    Raises:
        UserError: If a line is neither, or a date is none, and ``options.skip_errors`` is false.
    """
    item = ""
    for block in read_blocks(path, options.encoding, None, options.files):
        users, items, dates, numbers = list[str](), list[str](), list[str](), list[int]()
        num_skipped = 0
        for number, line in enumerate(block.lines, block.line):
            text = line.strip()
            if text.endswith(":") and text.count(",") == 0:
                item = text[:-1].strip()
                continue
            if not text:
                continue
            fields = text.split(",")
            user = fields[0].strip()
            if len(fields) == 3 and user and item:
                users.append(user)
                items.append(item)
                dates.append(fields[2])
                numbers.append(number)
            elif options.skip_errors:
                num_skipped += 1
            else:
                raise UserError(f"{path}:{number}: {_RULE}, got {shown(line)}")
        times_s = iso_s(dates) if dates else np.empty(0)
        holds = np.isfinite(times_s)
        if not holds.all() and not options.skip_errors:
            row = int(np.argmin(holds))
            raise UserError(
                f"{path}:{numbers[row]}: date must be as 2005-09-06, got {shown(dates[row])}"
            )
        kept = np.flatnonzero(holds)
        yield Rows(
            [users[row] for row in kept],
            [items[row] for row in kept],
            times_s[kept],
            num_skipped + int((~holds).sum()),
            is_dated=True,
        )
