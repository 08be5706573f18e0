"""What tests of broken runs begin with: the whole table, and a process that forks commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_cases import TWO, whole_table
from zygote import Zygote

from cdc_flower.study import run as runs


@pytest.fixture
def without_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the summary of a run, which takes longer than a tiny run itself."""
    monkeypatch.setattr(runs, "finish", lambda *args, **kwargs: None)


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of a run of two methods that nothing interrupted."""
    return whole_table(tmp_path_factory, TWO)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Zygote]]:
    """A folder, and a process that forks commands there with all that they import."""
    folder = tmp_path_factory.mktemp("commands")
    with Zygote(folder / "logs", current=folder) as zygote:
        yield folder, zygote
