"""One user a line, then the items that the user chose, oldest first. The file gives order only."""

import numpy as np

from cdc_flower.tasks.recommendation.readers.headers import names_column
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.registry import readers
from cdc_flower.tasks.recommendation.readers.rows import Check, Rows, good_rows, shown, text_rows


def _is_header(words: list[str]) -> bool:
    return (
        len(words) > 1
        and names_column(words[0], "user")
        and all(names_column(w, "item") for w in words[1:])
    )


@readers.register("user_lines")
def read_user_lines(text: str, source: str, options: ReaderOptions) -> Rows:
    """Reads ``user item item ...`` lines; a user of several has the items of all.

    Args:
        text: Of the file.
        source: Its name for errors.
        options: Its layout.

    Raises:
        UserError: If a line has no item, or an empty id, and ``options.skip_errors`` is false.
    """
    lines, line_numbers = text_rows(text, options.sep)
    rows = [[word.strip() for word in line.split(options.sep)] for line in lines]
    if rows and (_is_header(rows[0]) if options.header is None else options.header):
        lines, line_numbers, rows = lines[1:], line_numbers[1:], rows[1:]
    num_items = np.fromiter(map(len, rows), np.int64, len(rows)) - 1
    separated = "white space" if options.sep is None else repr(options.sep)
    checks = [
        Check(
            num_items >= 1,
            f"row must be a user and at least one item separated by {separated}",
            lambda row: shown(lines[row]),
        ),
        Check(
            np.fromiter(map(all, rows), np.bool_, len(rows)),
            "user and items must not be empty",
            lambda row: shown(lines[row]),
        ),
    ]
    good = good_rows(source, lambda row: int(line_numbers[row]), checks, options.skip_errors)
    kept = [rows[row] for row in np.flatnonzero(good)]
    users = np.repeat(np.array([row[0] for row in kept], dtype=object), num_items[good])
    return Rows(
        users, [item for row in kept for item in row[1:]], None, num_skipped=int((~good).sum())
    )
