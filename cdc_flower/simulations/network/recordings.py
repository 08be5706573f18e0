"""Recordings of links: files in a folder, or in an archive, as pairs of traces up and down.

Recordings that hold the same rates are one recording, whatever their files are called. Each belongs
to one of two parts by a hash of its content, so that what was tuned on one part can be reported on
the other.
"""

import gzip
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.simulations.network.formats import trace_formats
from cdc_flower.simulations.network.trace import Trace, TracePair

PARTS = ("all", "tune", "report")
#: Of all recordings, by content, those to tune on.
TUNE_SHARE = 0.3
#: Ends of names that mahimahi gives to the directions of one link.
_DIRECTION = re.compile(r"\.(up|down|uplink|downlink)(\.gz)?$")


def read_recordings(
    path: str | Path,
    format: str,
    *,
    files: str = "*",
    part: str = "all",
    up_ratio: float = 0.2,
    min_mean_bps: float = 0.0,
    on_error: str = "raise",
) -> tuple[TracePair, ...]:
    """Reads a file, a folder, a tar or a zip archive, without repeats, in the order of content.

    Args:
        path: Where they are.
        format: A registered trace format.
        files: Only names that match this pattern, such as ``*norway*``.
        part: ``tune``, ``report`` or ``all``. Which part a recording belongs to depends on its
            content alone.
        up_ratio: Rate up as a share of the rate down, where the recording has one direction only
            (and the inverse).
        min_mean_bps: Recordings with a lower mean rate in either direction are left out. 0: none
            are.
        on_error: ``raise``, or ``skip`` to leave files with mistakes out and tell how many.

    Raises:
        UserError: If there is nothing, a value is wrong, or a file has a mistake.
    """
    for kind, value, known in (
        ("format", format, trace_formats),
        ("part", part, PARTS),
        ("on_error", on_error, ("raise", "skip")),
    ):
        if value not in known:
            raise unknown_name(kind, value, known, f"network.{kind}")
    if not 0 < up_ratio < float("inf"):
        raise UserError(f"network.up_ratio must be > 0 and finite, got {up_ratio}")
    source = Path(path)
    if not source.exists():
        raise UserError(f"network.path: there is no {source}")
    links = _read_links(source, format, files, on_error)
    found = [_pair(both, up_ratio) for both in links.values()]
    pairs = {pair.content_hash(): pair for pair in found}
    chosen = [
        pairs[key]
        for key in sorted(pairs)
        if (part == "all" or part_of(key) == part)
        and min(pairs[key].up.mean_bps, pairs[key].down.mean_bps) >= min_mean_bps
    ]
    if not chosen:
        raise UserError(
            f"network.path: {source} has no recording of the part {part!r} that matches {files!r}"
        )
    return tuple(chosen)


def _read_links(
    source: Path, format: str, files: str, on_error: str
) -> dict[str, dict[str, Trace]]:
    """Reads the directions of each link, by its name."""
    links: dict[str, dict[str, Trace]] = {}
    mistakes: list[UserError] = []
    for name, content in _files(source):
        if not fnmatch(name, files):
            continue
        try:
            read = trace_formats[format].value(_text(content, name), name)
        except UserError as error:
            if on_error == "raise":
                raise
            mistakes.append(error)
            continue
        links.setdefault(_DIRECTION.sub("", name), {}).update(read)
    if mistakes:
        said = f"{len(mistakes)} malformed files skipped, such as {mistakes[-1]}"
        print(f"{source}: {said}", file=sys.stderr)
    return links


def part_of(content_hash: str) -> str:
    """Tells the part of a recording, ``tune`` or ``report``."""
    return "tune" if int(content_hash[:8], 16) < TUNE_SHARE * 2**32 else "report"


def _pair(both: dict[str, Trace], up_ratio: float) -> TracePair:
    """Makes both directions; a missing one is the other times a ratio."""
    if "up" not in both:
        return TracePair(both["down"].scaled(up_ratio), both["down"])
    return TracePair(both["up"], both.get("down") or both["up"].scaled(1 / up_ratio))


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Gives names and contents, in the order of the names."""
    if source.is_dir():
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            yield path.relative_to(source).as_posix(), path.read_bytes()
    elif tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and not _is_hidden(member.name):
                    yield member.name, content.read()
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as packed:
            for name in sorted(packed.namelist()):
                if not name.endswith("/") and not _is_hidden(name):
                    yield name, packed.read(name)
    else:
        yield source.name, source.read_bytes()


def _is_hidden(name: str) -> bool:
    """Tells whether the archiving system of a Mac added it."""
    return "__MACOSX" in name or Path(name).name.startswith(".")


def _text(content: bytes, name: str) -> str:
    try:
        return (gzip.decompress(content) if name.endswith(".gz") else content).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: a trace must be text, or text with gzip ({error})") from None
