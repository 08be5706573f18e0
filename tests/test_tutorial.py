"""The tutorial: its files are written and its commands run as they stand on the page."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from zygote import Zygote

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
TEXT = PAGE.read_text(encoding="utf-8")
FILES: dict[str, str] = dict(
    re.findall(r'^```python title="(\w+\.py)"\n(.*?)^```', TEXT, re.DOTALL | re.MULTILINE)
)
#: Name of the last file before it -> a command.
COMMANDS = {
    re.findall(r'title="(\w+)\.py"', TEXT[: found.start()])[-1]: found[1]
    for found in re.finditer(r"^cdc-flower (.+)$", TEXT, re.MULTILINE)
}
#: Name of a file -> commands beside it that are not of the package.
BEFORE = {
    name: re.findall(r"^((?:python|printf) .+)$", text, re.MULTILINE)
    for name, text in re.findall(r'title="(\w+)\.py"\n(.*?)(?=\n## |\Z)', TEXT, re.DOTALL)
}
MOST_LINES = 30


def environment() -> dict[str, str]:
    """The variables of a process that imports this package, and starts the same Python."""
    paths = [str(PAGE.parents[1]), os.environ.get("PYTHONPATH", "")]
    programs = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PATH": os.pathsep.join(programs),
    }


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Zygote]]:
    """A folder with the files of the page, and a process that runs commands there."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    with Zygote(folder / "logs", environment(), folder) as zygote:
        yield folder, zygote


def test_the_page_has_one_of_each_kind() -> None:
    assert set(COMMANDS) == {name.removesuffix(".py") for name in FILES}
    kinds = ("strategy", "model", "data", "network", "plugins=[sign]", "policy=", "task=")
    kinds += ("data.format=", "network.format=", "plugins=[energy]")
    assert all(any(kind in command for command in COMMANDS.values()) for kind in kinds)


@pytest.mark.parametrize("name", FILES)
def test_a_part_of_ones_own_is_short(name: str) -> None:
    assert len(FILES[name].splitlines()) <= MOST_LINES


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_as_it_stands_and_its_part_is_in_use(
    name: str, own: tuple[Path, Zygote]
) -> None:
    folder, zygote = own
    out = folder / f"run-{name}"
    for line in BEFORE[name]:
        subprocess.run(["bash", "-c", line], cwd=folder, env=environment(), check=True)
    command = zygote.start(*shlex.split(COMMANDS[name]), f"out={out}")
    assert command.wait() == 0, command.printed()
    rows = pd.read_parquet(out / "results.parquet")
    if name == "nudge":
        lines = {"popularity", "markov", "oracle", "window"}
        assert set(rows["strategy"]) - lines == {"static", "nudge", "nudge@mean", "nudge@other"}
    if name == "discovery":
        assert set(rows["metric"]) == {"new_hr@10"}
    config = (out / "config.yaml").read_text()
    assert name in config
