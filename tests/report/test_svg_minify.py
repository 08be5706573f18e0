"""A figure in fewer bytes: the same marks, texts and looks."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from cdc_flower.report.drawing import style
from cdc_flower.report.drawing.svg_minify import _path, compact

POINTS = st.lists(st.tuples(st.floats(-900, 900), st.floats(-900, 900)), min_size=2, max_size=30)


def absolute(path: str) -> list[tuple[float, float]]:
    """The ends of the steps of a path."""
    found, here, first = [], np.zeros(2), np.zeros(2)
    for command, text in re.findall(r"([MlhvqcZz])([^MlhvqcZz]*)", path):
        numbers = [float(number) for number in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", text)]
        if command == "z":
            here = first
            continue
        step = {"h": [*numbers, 0.0], "v": [0.0, *numbers]}.get(command, numbers[-2:])
        here = np.array(step) if command == "M" else here + step
        first = here if command == "M" else first
        found.append((float(here[0]), float(here[1])))
    return found


def moves(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that differ from the one before by a hundredth."""
    places = [(round(x * 100), round(y * 100)) for x, y in points]
    return [point for k, point in enumerate(points) if k == 0 or places[k] != places[k - 1]]


def drawn(num_points: int = 40) -> Figure:
    """Lines with bands, markers, a shade, names with markup, and two axes."""
    figure = Figure()
    for axes in figure.subplots(1, 2):
        xs = np.arange(num_points)
        axes.fill_between(xs, np.sin(xs) - 1, np.sin(xs) + 1, alpha=0.2)
        axes.plot(xs, np.sin(xs), marker="o")
        axes.axvspan(3, 4, alpha=0.1)
        axes.set(xlabel="a < b & c", ylabel="“value”")
    return figure


@given(POINTS)
def test_a_path_in_relative_steps_ends_where_it_did_however_long_it_is(
    points: list[tuple[float, float]],
) -> None:
    text = "".join(f"{'L' if k else 'M'} {x:.6f} {y:.6f} \n" for k, (x, y) in enumerate(points))
    written = [(float(f"{x:.6f}"), float(f"{y:.6f}")) for x, y in points]
    np.testing.assert_allclose(moves(absolute(_path(text))), moves(written), atol=0.0051)


def test_a_path_says_curves_closing_and_level_lines_in_few_letters() -> None:
    assert _path("M 0 0 \nL 0 3.5 \n") == "M0 0v3.5"
    assert _path("M 56.16 188.273888 \nL 365.04 188.273888 \n") == "M56.16 188.27h308.88"
    assert (
        _path("M 1 1 \nL 2 0.5 \nC 2 1 3 2 4.25 -1 \nz\nM 5 5 \nL 5.5 6")
        == "M1 1l1-.5c0 .5 1 1.5 2.25-1.5zM5 5l.5 1"
    )
    assert _path("M 0 0 \nC 1 0 2 1 3 3 \nL 4 4.5 \n") == "M0 0c1 0 2 1 3 3l1 1.5"
    assert (
        _path("M 0 1.5 \nC 0.397805 1.5 0.77937 1.341951 1.06066 1.06066 \nz\n")
        == "M0 1.5c.4 0 .78-.16 1.06-.44z"
    )


def test_texts_and_marks_are_all_there_and_the_look_of_each_is_the_same() -> None:
    figure = drawn()
    text = style.svg(figure, "f1")
    root = ElementTree.fromstring(text)
    said = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert said.count("a < b & c") == 2 and said.count("“value”") == 2
    assert text.count("<use") > 80 and text.count("<g ") == 2  # the marks of a line, with one look
    # Each class has a rule, and each reference an aim.
    rules = dict(re.findall(r"#f1 \.(\w+)\{([^}]*)\}", text))
    assert {element.get("class") for element in root.iter()} - {None} == set(rules)
    assert len(set(rules.values())) == len(rules)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    assert used == {element.get("id") for element in root.iter()} - {None, "f1"}
    assert all(name.startswith("f1-") for name in used)


def test_a_shape_of_a_single_use_stands_where_it_is_used() -> None:
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    shape = '<defs><path id="p" d="M 1 2 \nL 3 4 \nz\n"/></defs>'
    use = '<use xlink:href="#p" x="10" y="20" style="fill: #123456"/>'
    once = compact(f"<svg {spaces}>{shape}<g>{use}</g></svg>", "f1")
    assert once.endswith('#f1 .a{fill:#123456}</style><path class="a" d="M11 22l2 2z"/></svg>')
    twice = compact(f"<svg {spaces}>{shape}<g>{use}{use}</g></svg>", "f1")
    assert '<path id="f1-1" d="M1 2l2 2z"/>' in twice
    assert twice.count('<use href="#f1-1" x="10" y="20" class="a"/>') == 2


def test_turned_labels_stay_turned_and_numbers_in_words_stay_as_they_are() -> None:
    figure = Figure()
    figure.subplots().set(xlabel="0.123456 seconds", ylabel="turned")
    text = style.svg(figure, "f1")
    assert ">0.123456 seconds<" in text
    assert re.search(r'transform="rotate\(-90 [\d.]+ [\d.]+\)">turned<', text)
    assert "rotate(-0" not in text


@pytest.mark.parametrize("num_points", [5, 40, 400])
def test_a_figure_takes_less_than_half_of_the_bytes(num_points: int) -> None:
    buffer = io.StringIO()
    drawn(num_points).savefig(buffer, format="svg")
    whole = buffer.getvalue()
    assert len(compact(whole[whole.index("<svg") :], "f1")) < len(whole) / 2
