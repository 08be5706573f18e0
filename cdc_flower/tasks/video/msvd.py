"""Names and captions of the clips of MSVD."""

import json

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.damage import whole
from cdc_flower.tasks.video.reading import find_file, read_text
from cdc_flower.tasks.video.rows import Malformed, name_of, text_of

KEY = "data.msvd"


def msvd_names(folder: str) -> dict[str, str]:
    """Reads ``youtube_mapping.txt``: the clip's name of each ``vid<number>``.

    Raises:
        UserError: If a line is not a clip and a number, or one stands there twice.
    """
    path = find_file(folder, ["youtube_mapping.txt"], KEY)
    names: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = line.split()
        if len(parts) != 2:
            raise UserError(f"{path}:{number}: must be a clip and its id, got {line[:60]!r}")
        if names.setdefault(parts[1], parts[0]) != parts[0]:
            raise UserError(
                f"{path}:{number}: must name {parts[1][:60]} once, "
                f"got {names[parts[1]][:60]} and {parts[0][:60]}"
            )
    return names


def msvd_captions(folder: str) -> dict[str, list[str]]:
    """Reads ``testing_label.json``: captions by the clip's name.

    Raises:
        UserError: If it is not a list of clips with captions, or a clip stands there twice.
    """
    path = find_file(folder, ["testing_label.json"], KEY)
    with whole(path, "JSON list of clips, each with id and caption"):
        entries = json.loads(read_text(path))
    if not isinstance(entries, list):
        raise UserError(f"{path}: must be a JSON list, got {type(entries).__name__}")
    told: dict[str, list[str]] = {}
    for number, entry in enumerate(entries):
        try:
            name, captions = _clip(entry)
            if name in told:
                raise Malformed(f"id must stand in one entry, got {name} again")
        except Malformed as error:
            raise UserError(f"{path}: entry {number}: {error}") from error
        told[name] = captions
    return told


def _clip(entry: object) -> tuple[str, list[str]]:
    """Gives the name of a clip and its captions."""
    if not isinstance(entry, dict):
        raise Malformed(f"must be a JSON object, got {type(entry).__name__}")
    name = name_of(entry, "id").removesuffix(".avi")
    captions = entry.get("caption")
    if not isinstance(captions, list):
        raise Malformed(f"caption must be a list of texts, got {type(captions).__name__}")
    return name, [text_of({"caption": caption}, "caption") for caption in captions]
