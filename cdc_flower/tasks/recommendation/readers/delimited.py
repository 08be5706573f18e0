"""One event a line, fields between separators: MovieLens, Amazon ratings, plain tables.

Blocks that keep every rule are read by pandas' C parser. What else there is, such as a malformed
row or a quote within a field, is read row by row by ``careful``.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from cdc_flower.tasks.recommendation.readers.blocks import Block, read_blocks
from cdc_flower.tasks.recommendation.readers.careful import careful_rows
from cdc_flower.tasks.recommendation.readers.layout import NUM_HEAD, Layout, find_layout
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.registry import readers
from cdc_flower.tasks.recommendation.readers.rows import Ids, Rows
from cdc_flower.tasks.recommendation.readers.times import iso_s

_NEWLINE, _SPACE, _TAB = 10, 32, 9
#: Stands in place of a separator of several bytes.
_UNIT = b"\x1f"


@readers.register("delimited", has_columns=True, reads="parts")
def read_delimited(path: Path, options: ReaderOptions) -> Iterator[Rows]:
    """Reads a delimited file; see :class:`ReaderOptions`.

    Args:
        path: Of the file.
        options: Its layout.

    Raises:
        UserError: If a row has a wrong number of fields, an empty id, a rating or time that is not
            a finite number, or a negative time, and ``options.skip_errors`` is false.
    """
    source, parser = str(path), None
    for block in read_blocks(path, options.encoding, options.quote, options.files):
        if options.comment is not None:
            mark = re.escape(options.comment.encode())
            block = replace(block, data=re.sub(rb"(?m)^" + mark + rb".*$", b"", block.data))
        if parser is None:
            if not block.data.strip():
                continue
            layout = find_layout(_head(block, options), options, source)
            parser = _Parser(layout, options, source)
            block = _without_head(block, layout.first_line)
            yield Rows([], [], None, 0, notes=layout.notes)
        if block.data:
            yield parser.read(block)


def _head(block: Block, options: ReaderOptions) -> list[str]:
    text = block.data[: 2**20 if len(block.data) > 2**20 else None].decode(errors="replace")
    return [""] * (block.line - 1) + text.split("\n")[: 2 * NUM_HEAD]


def _without_head(block: Block, first_line: int) -> Block:
    """Drops the lines before the first event."""
    start, dropped = 0, max(first_line - block.line, 0)
    for _ in range(dropped):
        start = block.data.find(b"\n", start) + 1
        if not start:
            return Block(b"", first_line)
    return Block(block.data[start:], block.line + dropped)


@dataclass
class _Parser:
    """Reads blocks of one file.

    Attributes:
        layout: Of the file.
        options: As configured.
        source: Of the file, for errors.
        texts: Roles of columns that are read as texts, because in a block pandas would have read
            them as something that is written in more than one way.
    """

    layout: Layout
    options: ReaderOptions
    source: str
    texts: set[str] = field(default_factory=set)

    def read(self, block: Block) -> Rows:
        """Reads a block the fast way, or else row by row.

        Raises:
            UserError: If a row is malformed.
        """
        rows = self._fast(block.data)
        return rows or careful_rows(block, self.layout, self.options, self.source)

    def _fast(self, data: bytes) -> Rows | None:
        """Reads a block that keeps every rule; None for another."""
        data, sep = self._single(data)
        if not sep:
            return None
        starts = field_starts(data, sep, self.layout.num_fields, self.options.quote)
        if starts is None and (b"\n\n" in data or data.startswith(b"\n")):
            data = re.sub(rb"\n\n+", b"\n", data).removeprefix(b"\n")
            starts = field_starts(data, sep, self.layout.num_fields, self.options.quote)
        if starts is None:
            return None
        frame = self._parsed(data, sep)
        if frame is None:
            return None
        letters = np.frombuffer(data, np.uint8)
        wrong = {
            role
            for role in {"user", "item"} - self.texts
            if not _is_exact(frame[role], letters, starts[:, self.layout.places[role]])
        }
        if "time" in frame and frame["time"].dtype.kind in "fub":
            wrong |= {"time"} - self.texts
        if wrong:
            self.texts |= wrong
            frame = self._parsed(data, sep)
        return None if frame is None else self._rows(frame)

    def _single(self, data: bytes) -> tuple[bytes, bytes]:
        """Makes the separator a single byte, where that is possible."""
        sep, quote = self.layout.sep, self.options.quote
        if sep is None:
            return data, b" "
        raw = sep.encode()
        if len(raw) == 1:
            return data, b"" if sep == quote else raw
        if _UNIT in data or (quote is not None and quote.encode() in data):
            return data, b""
        return data.replace(raw, _UNIT), _UNIT

    def _parsed(self, data: bytes, sep: bytes) -> pd.DataFrame | None:
        """Parses the columns that are used, some as texts."""
        places = self.layout.places
        used = {place: role for role, place in places.items()}
        quote = self.options.quote
        try:
            frame = pd.read_csv(
                io.BytesIO(data),
                sep=r"\s+" if self.layout.sep is None else sep.decode(),
                header=None,
                names=range(self.layout.num_fields),
                usecols=sorted(used),
                dtype={places[role]: object for role in (self.texts | {"kind"}) & set(places)},
                na_filter=False,
                quotechar=quote or '"',
                quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
                lineterminator="\n",
                decimal=self.options.decimal,
                low_memory=False,
            )
        except (ValueError, OverflowError):
            return None
        return frame.rename(columns=used)

    def _rows(self, frame: pd.DataFrame) -> Rows | None:
        """Checks the values of a parsed block; None if one breaks a rule."""
        if "rating" in frame and not _is_finite(frame["rating"]):
            return None
        times, is_dated = None, False
        if "time" in frame:
            times, is_dated = self._times(frame["time"])
            if times is None:
                return None
        users, items = _ids(frame["user"]), _ids(frame["item"])
        if users is None or items is None:
            return None
        if self.options.kinds is None or "kind" not in frame:
            return Rows(users, items, times, 0, is_dated)
        wanted = frame["kind"].str.strip().isin(self.options.kinds).to_numpy(np.bool_)
        times = None if times is None else times[wanted]
        users, items = _taken(users, wanted), _taken(items, wanted)
        return Rows(users, items, times, 0, is_dated, int((~wanted).sum()))

    def _times(self, column: pd.Series) -> tuple[NDArray | None, bool]:
        """Reads times; None if one is none. Fractions are those that Python reads."""
        values = column.to_numpy()
        if values.dtype == np.int64:
            return (values if (values >= 0).all() else None), False
        if values.dtype != object:
            return None, False
        first = str(values[0]) if len(values) else ""
        if first[:4].isdigit() and first[4:5] == "-":
            dates = iso_s(values)
            return (dates if np.isfinite(dates).all() else None), True
        joined = "".join(values)
        if not joined.isascii() or "_" in joined:
            return None, False
        if self.options.decimal != ".":
            values = np.array([each.replace(self.options.decimal, ".") for each in values], object)
        try:
            numbers = np.fromiter(map(float, values), np.float64, len(values))
        except ValueError:
            return None, False
        return (numbers if (np.isfinite(numbers) & (numbers >= 0)).all() else None), False


def field_starts(
    data: bytes, sep: bytes, num_fields: int, quote: str | None
) -> NDArray[np.int64] | None:
    """Finds where each field starts, ``[R, num_fields]``; None if a row has another number of them.

    Args:
        data: Lines without blank ones.
        sep: One byte; a space stands for any run of spaces and tabs.
        num_fields: Of each row.
        quote: Around fields; None: quotes are letters. A quote within a field gives None.
    """
    letters = np.frombuffer(data, np.uint8)
    is_break = letters == _NEWLINE
    if sep == b" ":
        return _word_starts(letters, is_break, num_fields, quote)
    is_end = letters == sep[0]
    is_end |= is_break
    num_breaks = np.count_nonzero(is_break)
    is_quoted = quote is not None and quote.encode() in data
    if quote is not None and is_quoted:
        inside = _inside(letters, quote, is_end)
        if inside is None:
            return None
        is_end &= ~inside
        num_breaks = np.count_nonzero(is_break & is_end)
    ends = np.flatnonzero(is_end)
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(letters))
    if len(ends) % num_fields:
        return None
    last = ends[num_fields - 1 :: num_fields]
    breaks = last if data.endswith(b"\n") else last[:-1]
    if num_breaks != len(breaks) or not is_break[breaks].all():
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    if quote is not None and is_quoted:
        starts = starts + (letters[np.minimum(starts, len(letters) - 1)] == ord(quote))
    return starts.reshape(-1, num_fields)


def _word_starts(
    letters: NDArray[np.uint8], is_break: NDArray[np.bool_], num_fields: int, quote: str | None
) -> NDArray[np.int64] | None:
    """Finds where words start in lines of words between spaces and tabs."""
    if quote is not None and (letters == ord(quote)).any():
        return None
    is_word = letters != _SPACE
    is_word &= letters != _TAB
    is_word &= ~is_break
    starts = np.flatnonzero(is_word[1:] > is_word[:-1]) + 1
    starts = np.concatenate([[0], starts]) if is_word[:1].any() else starts
    if not len(starts) or len(starts) % num_fields:
        return None
    rows = starts.reshape(-1, num_fields)
    breaks = np.flatnonzero(is_break)
    if not is_break[-1]:
        breaks = np.append(breaks, len(letters))
    if len(breaks) != len(rows):
        return None
    are_whole = (rows[:, -1] < breaks).all() and (rows[1:, 0] > breaks[:-1]).all()
    return rows if are_whole else None


def _inside(
    letters: NDArray[np.uint8], quote: str, is_end: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Marks what stands within quotes; None unless each opens and closes a whole field."""
    is_quote = letters == ord(quote)
    places = np.flatnonzero(is_quote)
    if len(places) % 2:
        return None
    opening, closing = places[0::2], places[1::2]
    if not (is_end[opening - 1] | (opening == 0)).all():
        return None
    after = np.minimum(closing + 1, len(letters) - 1)
    if not (is_end[after] | (closing == len(letters) - 1)).all():
        return None
    return np.asarray(np.cumsum(is_quote, dtype=np.uint8) & 1, np.bool_)


def _are_canonical(letters: NDArray[np.uint8], starts: NDArray[np.int64]) -> bool:
    """Tells whether fields begin as whole numbers that are written in one way: no 01, no +1."""
    first = letters[np.minimum(starts, len(letters) - 1)]
    second = letters[np.minimum(starts + 1, len(letters) - 1)]
    is_digit = (second >= ord("0")) & (second <= ord("9"))
    is_plain = (first >= ord("1")) & (first <= ord("9"))
    is_zero = (first == ord("0")) & ~is_digit
    is_negative = (first == ord("-")) & is_digit & (second != ord("0"))
    return bool((is_plain | is_zero | is_negative).all())


def _is_exact(column: pd.Series, letters: NDArray[np.uint8], starts: NDArray[np.int64]) -> bool:
    """Tells whether ids are as they are written: texts, or whole numbers written in one way."""
    if column.dtype == np.int64:
        return _are_canonical(letters, starts)
    return column.dtype == object or isinstance(column.dtype, pd.StringDtype)


def _is_finite(column: pd.Series) -> bool:
    if column.dtype.kind in "iu":
        return True
    return column.dtype.kind == "f" and bool(np.isfinite(column.to_numpy()).all())


def _ids(column: pd.Series) -> "NDArray[np.int64] | Ids | None":
    """Reads ids; None if one is empty."""
    if column.dtype == np.int64:
        return np.asarray(column.to_numpy())
    if column.dtype != object:
        coded = pa.array(column).dictionary_encode()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.combine_chunks()
        codes, found = coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist()
    else:
        codes, found = pd.factorize(column.to_numpy())
    names = list(map(str.strip, found))
    return Ids(codes, names) if all(names) else None


def _taken(ids: "NDArray[np.int64] | Ids", wanted: NDArray[np.bool_]) -> "NDArray[np.int64] | Ids":
    return Ids(ids.codes[wanted], ids.names) if isinstance(ids, Ids) else ids[wanted]
