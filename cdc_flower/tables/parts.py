"""Keeps the rows of an unfinished run: a file for each strategy and segment, whole or not there.

``parts/TASK/STRATEGY/SEGMENT-HASH.parquet``. The hash is of the content, so a damaged part is known
as one. When a run is finished its parts are joined to one file, in an order that does not depend on
when they were written.
"""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cdc_flower.core.errors import UserError
from cdc_flower.core.files import sealed, unsealed, whole_file, write_whole
from cdc_flower.tables.controls import controlled
from cdc_flower.tables.long_table import schema, table_of

#: The folder of parts in a run folder.
PARTS = "parts"
#: In it: what the run is, and in which order its strategies stand.
RUN = "_run.json"
FORMAT = 1
_ENDING = ".parquet"
_HASH_DIGITS = 16

#: Tasks with the strategies and reference lines of each, in the order of the table.
Order = Sequence[tuple[str, Sequence[str]]]


class Parts:
    """Writes and finds the parts of a run.

    Args:
        folder: Made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Of each folder of a strategy that was looked at, the names of its parts by segment. It is
        #: read once: a run may have more segments than a folder is quickly read with each of them.
        self._known: dict[Path, dict[int, set[str]]] = {}

    def append(self, frame: pd.DataFrame) -> None:
        """Writes the rows of strategies and segments, in place of those before.

        Raises:
            CannotWrite: If the system refuses. What was written before is as it was.
        """
        # Rows of controls lie with those of their strategy, so a segment is whole or not there.
        owner = frame["strategy"].astype(str).map(controlled).rename("strategy")
        key = [frame["task"], owner, frame["segment"]]
        for place, rows in frame.groupby(key, observed=True, sort=False):
            task, strategy, segment = map(str, place)
            content = _content(table_of(rows))
            own = self.of_strategy(task, strategy)
            known = self._of_folder(own)
            name = _name(int(segment), content)
            write_whole(own / name, content)
            for other in known.get(int(segment), set()) - {name}:
                (own / other).unlink(missing_ok=True)
            known[int(segment)] = {name}

    def of_strategy(self, task: str, strategy: str) -> Path:
        """Names the folder of the parts of one strategy."""
        return self.folder / task / strategy

    def names(self, task: str, strategy: str, stop: int | None = None) -> list[str]:
        """Lists the names of the parts of a strategy, by segment.

        Args:
            task: Of the strategy.
            strategy: Its name.
            stop: Only segments below; None for all.
        """
        known = self._of_folder(self.of_strategy(task, strategy))
        segments: Iterable[int] = known if stop is None else known.keys() & range(stop)
        return [name for segment in sorted(segments) for name in sorted(known[segment])]

    def whole_names(self, task: str, strategy: str) -> list[str]:
        """Lists the names of all parts of a strategy, as :meth:`names` does, and looks for each.

        Args:
            task: Of the strategy.
            strategy: Its name.

        Raises:
            UserError: If one is gone: the others are no whole table.
        """
        folder = self.of_strategy(task, strategy)
        names = self.names(task, strategy)
        there = {path.name for path in folder.glob(f"[0-9]*{_ENDING}")}
        for name in names:
            if name not in there:
                raise _lost(folder / name, "gone")
        return names

    def clear(self) -> None:
        """Removes all parts."""
        self._known.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _of_folder(self, folder: Path) -> dict[int, set[str]]:
        known = self._known.get(folder)
        if known is None:
            known = self._known[folder] = {}
            for path in folder.glob(f"[0-9]*{_ENDING}"):
                known.setdefault(_segment(path.name), set()).add(path.name)
        return known

    def hold(self, task: str, strategy: str, names: Iterable[str]) -> bool:
        """Tells whether all of these parts are there and undamaged.

        Args:
            task: Of the strategy.
            strategy: Its name.
            names: Of the parts.
        """
        folder = self.of_strategy(task, strategy)
        return all(is_whole(folder / name) for name in names)

    def whole_paths(self) -> list[Path]:
        """Lists all undamaged parts, in the order of the table."""
        folders = [self.of_strategy(*place) for place in _places(self.order())]
        known = [folder for folder in folders if folder.is_dir()]
        others = sorted(path for path in self.folder.glob("*/*") if path.is_dir())
        paths = [
            sorted(folder.glob(f"[0-9]*{_ENDING}")) for folder in dict.fromkeys([*known, *others])
        ]
        return [path for each in paths for path in each if is_whole(path)]

    def order(self) -> Order:
        """Reads in which order tasks and strategies stand; empty where that is not known."""
        run = unsealed(self.folder / RUN) or {}
        given = run.get("order")
        order: Order = given if isinstance(given, list) else []
        return [(task, list(names)) for task, names in order]

    def begin(self, order: Order, facts: dict[str, object]) -> None:
        """Writes what the run is, before it has any part.

        Args:
            order: Of its tasks and strategies.
            facts: That a run which goes on must share.
        """
        listed = [[task, list(names)] for task, names in order]
        write_whole(self.folder / RUN, sealed({"format": FORMAT, "order": listed, "facts": facts}))

    def facts(self) -> dict[str, object] | None:
        """Reads what :meth:`begin` wrote; None if it is missing or damaged."""
        run = unsealed(self.folder / RUN)
        facts = None if run is None else run.get("facts")
        return facts if isinstance(facts, dict) else None

    def join(self, path: Path, order: Order) -> None:
        """Writes all parts as one file, a row group for each.

        Args:
            path: Of the file.
            order: Of tasks and strategies in it.

        Raises:
            CannotWrite: If the system refuses. The parts are as they were.
            UserError: If a part is damaged, or one that this object wrote is gone.
        """
        with (
            whole_file(path) as half,
            pq.ParquetWriter(half, schema(), compression="zstd", use_dictionary=True) as writer,
        ):
            for place in _places(order):
                for name in self.whole_names(*place):
                    writer.write_table(_read(self.of_strategy(*place) / name))


def _places(order: Order) -> list[tuple[str, str]]:
    return [(task, name) for task, names in order for name in names]


def is_whole(path: Path) -> bool:
    """Tells whether a part is what was written."""
    try:
        return path.name == _name(_segment(path.name), path.read_bytes())
    except (OSError, ValueError):
        return False


def has_parts(folder: Path) -> bool:
    """Tells whether a run folder holds rows of an unfinished run."""
    return any((folder / PARTS).glob(f"*/*/[0-9]*{_ENDING}"))


def _segment(name: str) -> int:
    return int(name.partition("-")[0])


def _name(segment: int, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]
    return f"{segment:06d}-{digest}{_ENDING}"


def _content(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", use_dictionary=True) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _read(path: Path) -> pa.Table:
    """Reads one part.

    Raises:
        UserError: If it is damaged.
    """
    with suppress(OSError):
        content = path.read_bytes()
        if path.name == _name(_segment(path.name), content):
            return pq.read_table(pa.BufferReader(content)).cast(schema())
    raise _lost(path, "damaged")


def _lost(path: Path, how: str) -> UserError:
    return UserError(f"{path}: this part of the results is {how}; resume the run to play it again")
