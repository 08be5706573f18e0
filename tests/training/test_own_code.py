"""Code of a user's own in the key of a checkpoint."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from plugin_cases import MODEL, config_of, nothing_stays

from cdc_flower.models.gru4rec import GRU4Rec
from cdc_flower.study.cloud import train_cloud, with_own_code
from cdc_flower.study.setup import prepare
from cdc_flower.training.cloud import no_progress
from cdc_flower.training.own_code import own_code

FILES = {
    "own_base": "class Base:\n    pass\n",
    "own_size": "SIZE = 3\n",
    "own_kinds": "import json\nimport own_size\nfrom own_base import Base\n\n\n"
    "class Kind(Base):\n    pass\n\n\ndef make():\n    import own_late\n    return Kind()\n",
    "own_late": "LATE = 1\n",
    "own_else": "ELSE = 1\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with nothing_stays(tmp_path, monkeypatch):
        sys.path.insert(0, str(tmp_path))
        for name, text in FILES.items():
            (tmp_path / f"{name}.py").write_text(text)
        yield tmp_path


def kinds() -> ModuleType:
    importlib.invalidate_caches()
    return importlib.import_module("own_kinds")


def test_code_of_the_package_and_of_pytorch_is_none_of_the_users_own() -> None:
    assert own_code(GRU4Rec, torch.nn.Linear, dict) == ""


@pytest.mark.parametrize("changed", ["own_kinds", "own_base", "own_size", "own_late"])
def test_it_changes_with_each_file_that_the_class_comes_of(changed: str, folder: Path) -> None:
    before = [own_code(kinds().Kind), own_code(kinds().make)]
    assert before == [own_code(kinds().Kind), own_code(kinds().make)] and all(before)
    (folder / f"{changed}.py").write_text(FILES[changed] + "# changed\n")
    after = [own_code(kinds().Kind), own_code(kinds().make)]
    assert before[0] != after[0] and before[1] != after[1]


def test_it_does_not_change_with_other_files_of_the_folder(folder: Path) -> None:
    before = own_code(kinds().Kind)
    (folder / "own_else.py").write_text("ELSE = 2\n")
    assert own_code(kinds().Kind) == before


def test_a_class_that_was_typed_in_changes_with_its_functions() -> None:
    def typed(number: int) -> type:
        space: dict[str, type] = {}
        text = f"class Typed:\n    def size(self):\n        return (lambda: {number})()\n"
        exec(text, {"__name__": "typed_in"}, space)
        return space["Typed"]

    assert own_code(typed(1)) == own_code(typed(1)) != own_code(typed(2))


def test_a_model_whose_module_changed_is_trained_anew(folder: Path) -> None:
    def play() -> set[str]:
        small = ["fleet.num_devices=4", "num_negatives=9", "cloud.epochs=1"]
        config = config_of(*small, "+model._target_=own_model.MeanPool", f"cache={folder / 'kept'}")
        setup = prepare(config)
        train_cloud(config, setup.stream, setup.model, no_progress)
        return {path.name for path in (folder / "kept").iterdir()}

    (folder / "own_model.py").write_text(MODEL)
    first = play()
    assert len(first) == 1 and play() == first  # found again
    (folder / "own_model.py").write_text(MODEL + "\n# changed\n")
    assert len(play()) == 2


def test_what_a_strategy_trains_is_kept_with_its_code(folder: Path) -> None:
    config = config_of("fleet.num_devices=4", "num_negatives=9", "cloud.epochs=0")
    setup = prepare(config)
    cloud = train_cloud(config, setup.stream, setup.model, no_progress)
    assert with_own_code(cloud, setup.strategies["static"]) is cloud
    one = with_own_code(cloud, kinds().Kind())
    (folder / "own_base.py").write_text("class Base:\n    x = 1\n")
    other = with_own_code(cloud, kinds().Kind())
    assert len({cloud.identity, one.identity, other.identity}) == 3
