"""Recordings of links: files in a folder, or in an archive, as pairs of traces up and down.

Recordings that hold the same rates are one recording, whatever their files are called. Each belongs
to one of two parts by a hash of its content, so that what was tuned on one part can be reported on
the other.
"""

import re
import sys
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TypedDict, Unpack

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.opening.archives import unpacked_files
from cdc_flower.core.opening.damage import DamagedFile
from cdc_flower.core.opening.texts import decoded
from cdc_flower.core.words import counted, counted_of
from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.reading import looks_like, read_links
from cdc_flower.simulations.network.trace import TracePair

PARTS = ("all", "tune", "report")
ON_ERROR = ("raise", "skip")
REPEATED = ("merge", "raise")
#: Of all recordings, by content, those to tune on.
TUNE_SHARE = 0.3
#: Ends of names that say the direction of a link, before those that say the kind of file.
_DIRECTION = re.compile(r"[._-](up|down|uplink|downlink|ul|dl)((?:\.[a-z0-9]{1,5})*)$", re.I)
#: Files that lie beside recordings, and are none.
_BESIDE = ("README*", "LICENSE*", "CITATION*", "*.md", "*.pdf", "*.html")


class Choices(TypedDict, total=False):
    """Choices of :func:`read_recordings`, as :class:`Reading` has them."""

    files: str
    part: str
    up_ratio: float
    min_mean_bps: float
    on_error: str
    repeated: str
    columns: tuple[tuple[str, str], ...]
    measured: bool


@dataclass(frozen=True)
class Reading:
    """Says which recordings are read, and how.

    Args:
        format: A registered trace format.
        files: Only names that match this pattern, such as ``*norway*``.
        part: ``tune``, ``report`` or ``all``. Which part a recording belongs to depends on its
            content alone.
        up_ratio: Rate up as a share of the rate down, where the recording has one direction only
            (and the inverse).
        min_mean_bps: Recordings with a lower mean rate in either direction are left out. 0: none
            are.
        on_error: ``raise``, or ``skip`` to leave files with mistakes out and tell how many.
        repeated: ``merge`` to average rows of one time and tell how many, or ``raise``.
        columns: Pairs of what a column holds and its name, for formats that take columns.
        measured: Whether round-trip time and loss are the recordings' own, where they have them.

    Raises:
        UserError: If a value is wrong.
    """

    format: str
    files: str = "*"
    part: str = "all"
    up_ratio: float = 0.2
    min_mean_bps: float = 0.0
    on_error: str = "raise"
    repeated: str = "merge"
    columns: tuple[tuple[str, str], ...] = ()
    measured: bool = False

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("format", self.format, trace_formats),
            ("part", self.part, PARTS),
            ("on_error", self.on_error, ON_ERROR),
            ("repeated", self.repeated, REPEATED),
        ):
            if value not in known:
                raise unknown_name(kind, value, known, f"network.{kind}")
        if not 0 < self.up_ratio < float("inf"):
            raise UserError(f"network.up_ratio must be > 0 and finite, got {self.up_ratio}")
        if self.columns and not trace_formats[self.format].facts.takes_columns:
            takers = ", ".join(name for name in trace_formats if _takes_columns(name))
            rule = f"network.columns must be empty with the format {self.format}"
            raise UserError(f"{rule}; {takers} take columns")


@dataclass
class _Found:
    """Collects links by name, and what has to be told.

    Attributes:
        links: What was read.
        mistakes: Of files that were left out.
        beside: Names of files that are no recordings.
        repeated: Files with rows of one time: their names, how many, and the first line.
    """

    links: dict[str, Recorded] = field(default_factory=dict)
    mistakes: list[UserError] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    repeated: list[tuple[str, int, int]] = field(default_factory=list)


def read_recordings(
    path: str | Path, format: str, **choices: Unpack[Choices]
) -> tuple[TracePair, ...]:
    """Reads a file, a folder, a tar or a zip archive, without repeats, in the order of content.

    Args:
        path: Where they are.
        format: A registered trace format.
        choices: Fields of :class:`Reading`.

    Raises:
        UserError: If there is nothing, a value is wrong, or a file has a mistake.
    """
    return read_as(Path(path), Reading(format, **choices))


def read_as(source: Path, reading: Reading) -> tuple[TracePair, ...]:
    """Reads recordings as :func:`read_recordings`, with choices that are checked.

    Raises:
        UserError: If there is nothing, or a file has a mistake.
    """
    found = _find_links(source, reading)
    told = _told(found)
    if found.mistakes and not found.links:
        raise UserError(f"network.path: nothing is left to read in {source}: {'; '.join(told)}")
    one_way = [link for link in found.links.values() if link.up is None or link.down is None]
    if one_way:
        told.append(
            f"{counted_of(len(one_way), len(found.links), 'recording', ('has', 'have'))} one "
            f"direction: the rate up is {reading.up_ratio:g} of that down (network.up_ratio)"
        )
    made = [_pair(found.links[name], reading) for name in sorted(found.links)]
    pairs = {pair.content_hash(): pair for pair in made}
    of_part = [key for key in sorted(pairs) if reading.part in ("all", _part(pairs[key]))]
    if len(of_part) < len(pairs):
        told.append(
            f"{counted_of(len(of_part), len(pairs), 'recording', ('is', 'are'))} of the part "
            f"{reading.part}; network.part=all reads all"
        )
    chosen = [
        pairs[key]
        for key in of_part
        if min(pairs[key].up.mean_bps, pairs[key].down.mean_bps) >= reading.min_mean_bps
    ]
    if len(chosen) < len(of_part):
        slow = counted_of(len(of_part) - len(chosen), len(of_part), "recording", ("is", "are"))
        told.append(f"{slow} slower than network.min_mean_bps={reading.min_mean_bps:g}")
    if told:
        print(f"{source}: {'; '.join(told)}", file=sys.stderr)
    if not chosen:
        hint = "; network.part=all reads all" if pairs and not of_part else ""
        raise UserError(
            f"network.path: {source} has no recording of the part {reading.part!r} that matches "
            f"{reading.files!r}{hint}"
        )
    return tuple(chosen)


def part_of(content_hash: str) -> str:
    """Tells the part of a recording, ``tune`` or ``report``."""
    return "tune" if int(content_hash[:8], 16) < TUNE_SHARE * 2**32 else "report"


def _part(pair: TracePair) -> str:
    """Tells the part of a pair by its rates alone."""
    return part_of(replace(pair, rtt_s=None, loss=None).content_hash())


def _takes_columns(format: str) -> bool:
    return trace_formats[format].facts.takes_columns


def _find_links(source: Path, reading: Reading) -> _Found:
    """Reads the links of all files.

    Raises:
        UserError: If there is no file, or one has a mistake that is not to be skipped.
    """
    found = _Found()
    for name, content in unpacked_files(source, "network.path"):
        if not fnmatch(name, reading.files):
            continue
        if source.name != name and _is_beside(name):
            found.beside.append(name)
            continue
        text = ""
        try:
            if isinstance(content, UserError):
                raise content
            text = decoded(content, name)
            links = read_links(reading.format, text, name, dict(reading.columns))
            if again := _repeated(links, name, reading):
                text = ""  # no other format would read it better
                raise again
        except UserError as error:
            other = looks_like(text, name, reading.format)
            kind = DamagedFile if isinstance(error, DamagedFile) else UserError
            told = kind(f"{error}; {other}" if other else str(error))
            if reading.on_error == "raise":
                raise told from None
            found.mistakes.append(told)
            continue
        _add(links, name, found)
    return found


def _is_beside(name: str) -> bool:
    return any(fnmatch(PurePosixPath(name).name, pattern) for pattern in _BESIDE)


def _repeated(links: list[Recorded], name: str, reading: Reading) -> UserError | None:
    """Makes the error of a repeated time, where it is one."""
    again = next((link for link in links if link.num_repeated), None)
    if again is None or reading.repeated == "merge":
        return None
    return UserError(
        f"{name}, line {again.line}: times must ascend, got one twice; "
        "network.repeated=merge takes the mean"
    )


def _add(links: list[Recorded], name: str, found: _Found) -> None:
    """Adds the links of a file; one direction joins the other, that of a file of the same name."""
    says = _DIRECTION.search(name)
    again = [link for link in links if link.num_repeated]
    if again:
        count = sum(link.num_repeated for link in again)
        found.repeated.append((name, count, again[0].line))
    for link in links:
        key, is_one_way = name, (link.up is None) != (link.down is None)
        if says and is_one_way:
            key = name[: says.start()]
            trace = link.up or link.down
            is_up = says[1].lower() in ("up", "uplink", "ul")
            link = replace(link, up=trace if is_up else None, down=None if is_up else trace)
        key = f"{key}#{link.name}" if link.name else key
        before = found.links.get(key)
        found.links[key] = link if before is None else _joined(before, link)


def _joined(before: Recorded, link: Recorded) -> Recorded:
    """Joins two directions; what the second one has counts."""
    own = {
        each.name: value for each in fields(link) if (value := getattr(link, each.name)) is not None
    }
    return replace(before, **own)


def _told(found: _Found) -> list[str]:
    """Says what was left out or changed."""
    told = []
    if found.mistakes:
        num_damaged = sum(isinstance(each, DamagedFile) for each in found.mistakes)
        kinds = {"damaged": num_damaged, "malformed": len(found.mistakes) - num_damaged}
        counts = [counted(count, f"{kind} file") for kind, count in kinds.items() if count]
        told.append(f"{' and '.join(counts)} skipped, first {found.mistakes[0]}")
    if found.beside:
        told.append(f"no recordings: {', '.join(found.beside[:3])}")
    if found.repeated:
        name, _, line = found.repeated[0]
        count = sum(each[1] for each in found.repeated)
        told.append(
            f"{counted(count, 'row')} with the time of the row before merged, the first in {name}, "
            f"line {line} (network.repeated=raise refuses them)"
        )
    return told


def _pair(link: Recorded, reading: Reading) -> TracePair:
    """Makes both directions; a missing one is the other times a ratio."""
    own = (link.rtt_s, link.loss) if reading.measured else (None, None)
    if link.up is None:
        assert link.down is not None
        return TracePair(link.down.scaled(reading.up_ratio), link.down, *own)
    return TracePair(link.up, link.down or link.up.scaled(1 / reading.up_ratio), *own)
