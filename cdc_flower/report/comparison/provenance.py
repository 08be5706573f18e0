"""Says on the page where a run was played, and with what."""

from collections.abc import Mapping

from cdc_flower.core.words import counted
from cdc_flower.report.folders import Config, flatten, list_at, part_of

_COMMIT_DIGITS = 12


def provenance_line(provenance: Config) -> str:
    """Says in a line when, on which CPU and with which code a run was played.

    Args:
        provenance: As the run folder holds it; empty gives an empty text.
    """
    if not provenance:
        return ""
    machine = part_of(provenance, "machine")
    versions = part_of(provenance, "versions")
    code = part_of(provenance, "code")
    commit = str(code.get("commit", "unknown"))[:_COMMIT_DIGITS]
    changed = " with changes" if code.get("changed") is True else ""
    resumed = len(list_at(provenance, "resumed"))
    facts = [
        f"{provenance.get('started')} to {provenance.get('ended') or 'an end that nobody wrote'}",
        f"resumed {counted(resumed, 'time')}" if resumed else "",
        f"{machine.get('cpu')} ({machine.get('capability')})",
        f"torch {versions.get('torch')}, numpy {versions.get('numpy')}",
        f"commit {commit}{changed}",
    ]
    return " · ".join(fact for fact in facts if fact)


def provenance_rows(provenance: Config) -> list[tuple[str, str]]:
    """Lists every fact with its place, such as ``versions.torch``."""
    rows: list[tuple[str, str]] = []
    for place, value in flatten(provenance).items():
        for number, each in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(each, Mapping):
                inner = flatten(each, f"{place}.{number}.")
                rows += [(name, str(fact)) for name, fact in inner.items()]
            else:
                rows.append((place, str(each)))
    return rows
