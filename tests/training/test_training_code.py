"""The cache of trained models notices every change that training depends on, and no other."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from run_cases import config_of
from test_layout import PACKAGE, imports

from cdc_flower.strategies.base import no_progress
from cdc_flower.study.cloud import train_cloud
from cdc_flower.study.setup import prepare
from cdc_flower.training.training_code import hash_of, training_files

#: One of each kind, by name wherever it lies.
TRAINS = (
    "hypernetwork.py",
    "losses.py",
    "gru4rec.py",
    "interests.py",
    "cloud.py",
    "fit.py",
    "seeds.py",
)
SHOWS = ("style.py", "page.py", "narrative.py", "cli.py", "summary.py", "config.yaml", "README.md")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's files, to be changed."""
    folder = tmp_path_factory.mktemp("copy") / PACKAGE.name
    return Path(shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__")))


def hash_after_a_change(copy: Path, name: str) -> tuple[str, str]:
    """The hash before and after a line more in the one file of that name."""
    path = min(copy.rglob(name), key=lambda path: len(path.parts))
    text, before = path.read_bytes(), hash_of(training_files(copy), copy)
    try:
        path.write_bytes(text + b"# another line\n")
        return before, hash_of(training_files(copy), copy)
    finally:
        path.write_bytes(text)


@pytest.mark.parametrize("name", TRAINS)
def test_models_are_trained_anew_after_a_change_of_what_training_depends_on(
    copy: Path, name: str
) -> None:
    before, after = hash_after_a_change(copy, name)
    assert before != after


@pytest.mark.parametrize("name", SHOWS)
def test_models_are_kept_after_a_change_of_the_report_the_command_or_a_configuration(
    copy: Path, name: str
) -> None:
    before, after = hash_after_a_change(copy, name)
    assert before == after


def test_nothing_that_training_depends_on_imports_a_file_that_is_not_hashed() -> None:
    hashed = set(training_files(PACKAGE))
    for path in hashed:
        for name in imports(path):
            parts = name.split(".")[1:] if name.split(".")[0] == PACKAGE.name else []
            places = [PACKAGE.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
            files = [
                file
                for place in places
                for file in (place.with_suffix(".py"), place / "__init__.py")
            ]
            assert {file for file in files if file.is_file()} <= hashed, f"{path} imports {name}"


@contextmanager
def executed() -> Iterator[set[Path]]:
    """The files of the package of which a function is called meanwhile."""
    found: set[str] = set()

    def see(frame: FrameType, _: str, __: Any) -> None:  # at each call, and at no line
        found.add(frame.f_code.co_filename)

    paths: set[Path] = set()
    before = sys.gettrace()
    sys.settrace(see)
    try:
        yield paths
    finally:
        sys.settrace(before)
        paths |= {Path(name) for name in found if Path(name).is_relative_to(PACKAGE)}


def test_every_function_that_a_training_calls_is_in_a_file_that_is_hashed() -> None:
    config = config_of("strategies=[duet]", "fleet.num_devices=2", "data.history_events=8")
    setup = prepare(config)
    with executed() as files:
        cloud = train_cloud(config, setup.stream, setup.model, no_progress)
        setup.strategies["duet"].prepare(cloud)

    assert {"cloud.py", "hypernetwork.py", "fit.py"} <= {path.name for path in files}
    # What finds this code is no part of it.
    assert {path for path in files if path.name != "training_code.py"} <= set(
        training_files(PACKAGE)
    )


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="models is not there"):
        training_files(tmp_path)
