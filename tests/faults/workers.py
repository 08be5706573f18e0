"""Ray's workers among the processes of a machine."""

from pathlib import Path


def workers_under(pid: int) -> list[int]:
    """Lists Ray's workers among the descendants of a process."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    found = []
    for child in parents:
        above: int | None = child
        while above is not None and above != pid:
            above = parents.get(above)
        if above == pid and child != pid and _is_worker(_title(child)):
            found.append(child)
    return sorted(found)


def _is_worker(title: str) -> bool:
    """Tells a worker from Ray's agents, whose end is that of Ray and who have such titles too.

    On a busy machine a worker may keep the title that it began with, which Ray's node has inside
    its own.
    """
    if title.startswith("ray::"):
        return not title.endswith("Agent")
    return "default_worker.py" in title and "/raylet/raylet " not in title


def _parent(path: Path) -> int | None:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""
