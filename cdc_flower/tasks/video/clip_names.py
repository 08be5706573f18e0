"""Names of videos, and of the files that hold them."""

from collections.abc import Iterable, Sequence

#: Of video files, in order of preference where several have the same name.
VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".webm", ".gif", ".mov", ".m4v")
#: ActivityNet's own files have it before the name of a video.
PREFIX = "v_"


def aliases(name: str) -> tuple[str, ...]:
    """Names under which a video may lie, the nearest first."""
    return name, f"{PREFIX}{name}", name.removeprefix(PREFIX)


def split_suffix(file: str, suffixes: Sequence[str]) -> tuple[str, str]:
    """Parts a name from its suffix, in capitals too; "" if it has none of these."""
    small = file.lower()
    suffix = next((end for end in suffixes if small.endswith(end) and len(file) > len(end)), "")
    return file[: len(file) - len(suffix)], suffix


def by_name(there: Iterable[str], suffixes: Sequence[str]) -> dict[str, str]:
    """Finds the file of each name without suffix, of several the one whose suffix comes first.

    Args:
        there: Names of files.
        suffixes: In order of preference, in small letters. That of a video may stand before it,
            as in ``clip.avi.npy``, which is less preferred.
    """
    ranked: dict[str, tuple[int, int, bool, str]] = {}
    for file in there:
        stem, suffix = split_suffix(file, suffixes)
        if not suffix:
            continue
        bare, of_video = split_suffix(stem, VIDEO_SUFFIXES)
        # The name as it is comes first, and small letters before capitals.
        order = (suffixes.index(suffix), not file.endswith(suffix), file)
        inner = 1 + VIDEO_SUFFIXES.index(of_video) if of_video else 0
        for name, rank in {stem: 0, bare: inner}.items():
            new = (rank, *order)
            ranked[name] = min(ranked.get(name, new), new)
    return {name: file for name, (*_, file) in ranked.items()}
