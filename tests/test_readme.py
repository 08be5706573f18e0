"""What README tells to type works."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg
from run_cases import composed_of
from tiny import counting_app

from cdc_flower.simulations.grids.inline import InlineGrid

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CARDS = [*ROOT.glob("cdc_flower/strategies/**/*.md"), *ROOT.glob("docs/*.md")]
YAMLS = [*ROOT.glob("cdc_flower/**/*.yaml")]  # each composes in test_cli_names.py as well


def commands(text: str) -> list[list[str]]:
    """The overrides of each ``cdc-flower`` command line."""
    lines = re.findall(r"^[#\s]*cdc-flower((?: [^\n`]*)?)$", text, re.MULTILINE)
    words = [shlex.split(line, comments=True) for line in lines]
    # What needs modules and files of a user's own is checked in tests/study/test_plugins.py.
    own = ("--config-dir", "plugins=")
    words = [line for line in words if not any(word.startswith(own) for word in line)]
    others = {"report", "resume", "verify", "stress", "list", "describe", "run", "--cfg"}
    runs = [line for line in words if not (line and line[0] in others)]
    return [[word for word in line if word != "-m"] for line in runs]


def test_the_comparison_from_python_runs_as_readme_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (code for code in SNIPPETS if "cdc.compare" in code)
    monkeypatch.chdir(tmp_path)

    exec(code, {})

    told = capsys.readouterr().out
    assert "duet" in told and "bytes_up" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes.svg", "report.html"]


def test_the_link_in_front_of_an_ordinary_flower_app_runs_as_readme_shows_it() -> None:
    (code,) = (code for code in SNIPPETS if "LinkGrid" in code)
    scope = {
        "grid": InlineGrid(counting_app(), np.arange(3)),
        "strategy": FedAvg(),
        "arrays": ArrayRecord([np.zeros(4, np.float32)]),
    }

    exec(code, scope)

    links = scope["links"]
    assert (
        len(links.rounds) == 3 and links.now_s > 3 * 0.089
    )  # each round crosses the link there and back, twice


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", *CARDS, *(pytest.param(path, marks=pytest.mark.slow) for path in YAMLS)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_command_that_is_shown_composes(path: Path) -> None:
    for overrides in commands(path.read_text(encoding="utf-8")):
        one_each = [
            re.sub(r"^(seed|network|model)=([^,\[]+),.*$", r"\1=\2", word) for word in overrides
        ]
        composed_of(*one_each)


def test_readme_names_every_network_and_model_that_there_is() -> None:
    for group in ("network", "model"):
        for path in ROOT.glob(f"cdc_flower/configs/{group}/*.yaml"):
            assert f"`{path.stem}`" in README
