"""Kept files of an interrupted run that are damaged or gone are not believed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_cases import (
    NUM_SEGMENTS,
    at_part,
    cut,
    flip,
    interrupted,
    kept_files,
    play,
    resumed,
)
from resume_cases import EACH, config
from sampling import a_sample

from cdc_flower.core.errors import UserError
from cdc_flower.core.files import sealed, unsealed
from cdc_flower.report import read_folder
from cdc_flower.tables.parts import PARTS

pytestmark = [pytest.mark.usefixtures("without_summary"), pytest.mark.slow]


def test_no_half_part_is_read(tmp_path: Path) -> None:
    folder = interrupted(config(tmp_path, EACH), 3)
    first, second, third = sorted(folder.glob("parts/*/*/*.parquet"))
    cut(first, 100)
    flip(second, 12345)
    (third.parent / f".{third.name}.7.part").write_bytes(b"PAR1")
    assert set(read_folder(folder).results.cells["segment"]) == {2}


def damage(path: Path, way: int) -> None:
    """Cuts a file, or flips a bit near its end, among the numbers of a state."""
    size = path.stat().st_size
    cut(path, size * 2 // 3) if way == 0 else flip(path, 8 * (size - 40) + 3)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("session.safetensors", 1),
        ("manifest.json", 0),
        pytest.param("session.safetensors", 0, marks=pytest.mark.slow),
        pytest.param("manifest.json", 1, marks=pytest.mark.slow),
    ],
)
def test_a_damaged_state_is_left_aside_with_a_word_and_the_one_before_it_used(
    name: str, way: int, whole: bytes, tmp_path: Path, played: list[tuple[str, int]]
) -> None:
    given = config(tmp_path, EACH)
    folder = interrupted(given, NUM_SEGMENTS)
    damage(folder / "checkpoints" / "000002" / name, way)
    played.clear()
    assert resumed(given) == whole
    assert played[0] == ("FedAvg", 2)
    assert "checkpoints/000002 is damaged: left aside" in (folder / "run.log").read_text()


def test_a_strategy_whose_states_are_all_damaged_begins_again(
    whole: bytes, tmp_path: Path, played: list[tuple[str, int]]
) -> None:
    given = config(tmp_path, EACH)
    folder = interrupted(given, NUM_SEGMENTS)
    for path in folder.glob("checkpoints/*/manifest.json"):
        cut(path, 20)
    played.clear()
    assert resumed(given) == whole
    assert played[0] == ("FedAvg", 1)


@pytest.mark.parametrize("rows_of", ["fedavg", "duet"])
def test_a_damaged_part_is_played_again(
    rows_of: str, whole: bytes, tmp_path: Path, played: list[tuple[str, int]]
) -> None:
    given = config(tmp_path, EACH)
    folder = interrupted(given, 2 * NUM_SEGMENTS)
    flip(next(folder.glob(f"parts/*/{rows_of}/000000*")), 4321)
    played.clear()
    assert resumed(given) == whole
    assert played == ([("FedAvg", 1)] if rows_of == "fedavg" else []) + [
        ("Duet", NUM_SEGMENTS if rows_of == "fedavg" else 1)
    ]


def test_a_part_that_is_gone_is_not_left_out_of_the_table(whole: bytes, tmp_path: Path) -> None:
    given = config(tmp_path, EACH)

    def clean_up() -> None:
        shutil.rmtree(tmp_path / "run" / PARTS)

    with at_part(2, clean_up), pytest.raises(UserError, match="is gone; resume the run to play"):
        play(given)
    assert resumed(given) == whole


@pytest.mark.parametrize("seed", a_sample([(seed,) for seed in range(20)], 4))
def test_any_kept_file_may_be_damaged(seed: int, whole: bytes, tmp_path: Path) -> None:
    draws = np.random.default_rng(seed)
    given = config(tmp_path, EACH)
    files = kept_files(interrupted(given, int(draws.integers(1, 2 * NUM_SEGMENTS + 1))))
    path = files[int(draws.integers(len(files)))]
    if draws.random() < 0.5:
        cut(path, int(draws.integers(path.stat().st_size)))
    else:
        flip(path, int(draws.integers(8 * path.stat().st_size)))
    assert resumed(given) == whole


def test_a_mark_or_a_state_of_other_code_is_not_used_where_the_run_does_not_say(
    tmp_path: Path, whole: bytes, played: list[tuple[str, int]]
) -> None:
    given = config(tmp_path, EACH)
    folder = interrupted(given, NUM_SEGMENTS + 2)
    cut(folder / "parts" / "_run.json", 10)
    for path in [folder / "parts/recommendation/fedavg/_done.json"]:
        kept: Any = unsealed(path)
        kept["code"]["cdc_flower"] = "another"
        path.write_bytes(sealed(kept))
    played.clear()
    assert resumed(given) == whole
    assert played == [("FedAvg", 1), ("Duet", 2)]
