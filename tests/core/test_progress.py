"""Where tables go."""

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
from rich.table import Table

from cdc_flower.core.progress import WIDTH, Bars, notebook_display, table_console


def test_a_table_in_a_file_is_not_folded_at_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("a", "b", box=None)
    table.add_row("x" * 60, "y" * 50)
    table_console().print(table)
    assert "x" * 60 + "  " + "y" * 50 in capsys.readouterr().out
    assert table_console().width >= WIDTH


class Shell:
    """Stands for the shell of a notebook's kernel."""


@dataclass
class Place:
    """A place below a cell, with everything that was shown there."""

    shown: list[str]

    def update(self, html: str) -> None:
        self.shown.append(html)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    """A notebook, as far as bars see it: the places that are made in its output."""
    places: list[Place] = []

    def display(html: str, display_id: bool) -> Place:
        assert display_id
        places.append(Place([html]))
        return places[-1]

    shell = ModuleType("IPython")
    shell.get_ipython = Shell  # type: ignore[attr-defined]
    tools = ModuleType("IPython.display")
    tools.HTML, tools.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", tools)
    return places


def test_in_a_notebook_bars_are_drawn_below_the_cell(
    notebook: list[Place], capfd: pytest.CaptureFixture[str]
) -> None:
    with Bars() as bars:
        for name in ("one <b>", "two"):
            step = bars.bar(name, 3)
            for _ in range(3):
                step()

    assert [place.shown[0] for place in notebook] == [
        "<div><progress max='3' value='0'></progress> 0/3 one &lt;b&gt;</div>",
        "<div><progress max='3' value='0'></progress> 0/3 two</div>",
    ]
    assert all("value='3'></progress> 3/3" in place.shown[-1] for place in notebook)
    assert capfd.readouterr() == ("", "")


def test_elsewhere_bars_are_silent_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        bars.bar("one", 1)()
    assert capfd.readouterr() == ("", "")
    assert notebook_display() is None
