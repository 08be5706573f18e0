"""The folder in which tests of a user's own classes run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_cases import own_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with the modules of ``plugin_cases``, of which nothing stays."""
    with own_folder(tmp_path, monkeypatch):
        yield tmp_path
