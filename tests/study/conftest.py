"""The folder in which tests of a user's own classes run, and an interrupted run's surroundings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_cases import whole_table
from plugin_cases import own_folder
from resume_cases import TWO

from cdc_flower.study import run as runs
from cdc_flower.study.session import Session


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with the modules of ``plugin_cases``, of which nothing stays."""
    with own_folder(tmp_path, monkeypatch):
        yield tmp_path


@pytest.fixture
def without_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most look at the table alone, and a summary takes longer than a run."""
    monkeypatch.setattr(runs, "finish", lambda *args, **kwargs: None)


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return whole_table(tmp_path_factory, TWO)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Strategies and the round that each began with, as they are played from now on."""
    begun: list[tuple[str, int]] = []
    run = Session.run

    def noting(session: Session, *args: Any, **kwargs: Any) -> Any:
        begun.append((type(session.strategy).__name__, session.loop.first_round))
        return run(session, *args, **kwargs)

    monkeypatch.setattr(Session, "run", noting)
    return begun
