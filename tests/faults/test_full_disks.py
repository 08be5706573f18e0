"""Disks that are full, and folders that become read-only, in the middle of a run."""

import os
from pathlib import Path

import pytest
from fault_cases import (
    EACH,
    NUM_SEGMENTS,
    at_part,
    in_child,
    interrupted,
    pair_config,
    play,
    resumed,
    with_limit,
)
from sampling import a_sample

from cdc_flower.core.errors import UserError
from cdc_flower.report import read_folder

pytestmark = pytest.mark.usefixtures("without_summary")

#: Bytes that a file may have: none, less than a part, than a state, and than the table.
SIZES = [0, 12_000]


@pytest.mark.parametrize(
    "num_bytes",
    [*SIZES, *a_sample([(1500 * k,) for k in range(1, 21)], 4)],
)
def test_a_full_disk_is_one_line_and_what_was_there_stays(
    num_bytes: int, whole: bytes, tmp_path: Path
) -> None:
    given = pair_config(tmp_path, EACH)
    folder = interrupted(given, NUM_SEGMENTS + 1)
    kept = read_folder(folder).results.cells
    done = in_child(with_limit(num_bytes, lambda: play({**given, "resume": True})))
    assert done.code == 2 and len(done.error.splitlines()) == 1, done
    assert "File too large" in done.error
    assert f"what was finished is kept, and cdc-flower resume {folder} goes on" in done.error
    assert len(read_folder(folder).results.cells) >= len(kept)
    assert resumed(given) == whole


@pytest.mark.parametrize("num_bytes", [10, 11_000])
def test_a_disk_that_is_full_at_the_beginning_is_one_line(num_bytes: int, tmp_path: Path) -> None:
    done = in_child(with_limit(num_bytes, lambda: play(pair_config(tmp_path))))
    assert done.code == 2 and len(done.error.splitlines()) == 1, done
    assert "File too large" in done.error


def test_a_folder_that_becomes_read_only_is_one_line(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = pair_config(tmp_path, EACH)
    replace = os.replace
    refused = False

    def refusing(source: Path, target: Path) -> None:
        if refused and "results" not in str(target):
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    def refuse() -> None:
        nonlocal refused
        refused = True

    monkeypatch.setattr(os, "replace", refusing)
    with at_part(2, refuse), pytest.raises(UserError, match=r"\(Permission denied\); what was"):
        play(given)
    refused = False
    assert resumed(given) == whole
