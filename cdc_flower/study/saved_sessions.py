"""Keeps the whole state of a strategy under way in new folders, with hashes; the newest two stay.

``checkpoints/NUMBER/`` holds ``session.safetensors`` and ``manifest.json``, which says of which
strategy and segment it is, which rows were written before it, and the hash of each file.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cdc_flower.core.errors import UserError
from cdc_flower.core.files import sealed, sha256_of, unsealed, write_folder
from cdc_flower.core.saveable import Arrays, Saved, arrays_bytes, load_arrays

log = logging.getLogger("cdc_flower")

#: The folder of saved sessions in a run folder.
CHECKPOINTS = "checkpoints"
SESSION = "session.safetensors"
MANIFEST = "manifest.json"
#: Of the folders. One with another number is not used.
FORMAT = 1
NUM_KEPT = 2
DAMAGED = ".damaged"


@dataclass(frozen=True)
class SavedSession:
    """A session that was found.

    Attributes:
        segment: How many segments are done.
        arrays: Of the whole session.
    """

    segment: int
    arrays: Arrays


class SavedSessions:
    """Writes and finds the states of a run.

    Args:
        folder: Made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, arrays: Saved, facts: Mapping[str, object]) -> None:
        """Writes a state as the newest one, and drops all but the two newest.

        Args:
            arrays: Of the session.
            facts: As JSON holds them; ``segment`` says how many are done.

        Raises:
            CannotWrite: If the system refuses. The states before are as they were.
        """
        content = arrays_bytes(arrays)
        files = {SESSION: hashlib.sha256(content).hexdigest()}
        manifest = sealed({"format": FORMAT, **facts, "files": files})
        number = max([0, *map(int, self._numbers())]) + 1
        write_folder(self.folder / f"{number:06d}", {SESSION: content, MANIFEST: manifest})
        for old in self._numbers()[:-NUM_KEPT]:
            shutil.rmtree(self.folder / old, ignore_errors=True)

    def newest(
        self, facts: Mapping[str, object], fits: Callable[[Mapping[str, object]], bool]
    ) -> SavedSession | None:
        """Finds the newest undamaged state; damaged ones are left aside, with a word in the log.

        Args:
            facts: That its manifest must hold.
            fits: Tells by a manifest whether the rows before it are there.
        """
        for number in reversed(self._numbers()):
            place = self.folder / number
            manifest = unsealed(place / MANIFEST)
            if manifest is not None and any(
                manifest.get(name) != value for name, value in facts.items()
            ):
                continue
            found = None if manifest is None else self._read(place, manifest)
            if manifest is None or found is None:
                log.warning("%s/%s is damaged: left aside", CHECKPOINTS, number)
                self._leave_aside(place)
            elif fits(manifest):
                return found
            else:
                log.warning("%s/%s is not used: rows before it are lost", CHECKPOINTS, number)
        return None

    def clear(self) -> None:
        """Drops everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, place: Path, manifest: Mapping[str, object]) -> SavedSession | None:
        files, segment = manifest.get("files"), manifest.get("segment")
        if manifest.get("format") != FORMAT or not isinstance(segment, int):
            return None
        try:
            if files != {SESSION: sha256_of(place / SESSION)}:
                return None
            return SavedSession(segment, load_arrays(place / SESSION))
        except (OSError, UserError):
            return None

    def _leave_aside(self, place: Path) -> None:
        try:
            place.rename(place.with_name(place.name + DAMAGED))
        except OSError as error:
            log.warning("%s cannot be renamed (%s)", place, error)

    def _numbers(self) -> list[str]:
        """Lists the names of the states, the newest last."""
        return sorted(path.name for path in self.folder.glob("[0-9]*") if path.name.isdigit())
