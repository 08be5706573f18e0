"""Shrinks a figure that Matplotlib wrote to a third of the bytes, with the same marks.

Steps of a path are relative and in hundredths of a point, each look is said once as a class, and
names and groups that nothing refers to are left out.
"""

import re
from collections.abc import Iterable, Iterator
from html import escape
from itertools import chain, count, cycle
from string import ascii_lowercase
from xml.etree import ElementTree

#: Of a point; a figure is some 700 points wide.
DIGITS = 2
_NUMBER = re.compile(r"-?\d+\.\d+(?![\d.]*e)")
_TOKEN = re.compile(r"[MLCQz]|-?\d+(?:\.\d+)?(?:e-?\d+)?")
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_PAIRS = {"M": 1, "L": 1, "Q": 2, "C": 3}
_PLAIN = re.compile(r"rotate\(-?0 [^)]*\)")
_URL = re.compile(r"(?<=url\(#)[^)]+")
_OWN = re.compile(r"(?:^|; )(?:opacity|clip-path|mask|filter):")
_ROUNDED = frozenset({"x", "y", "width", "height", "transform", "viewBox"})


def compact(text: str, name: str) -> str:
    """Shrinks an SVG element so that it can stand in a page beside others.

    Args:
        text: From Matplotlib, beginning with ``<svg``.
        name: Of its root. Other ids begin with it and classes count below it only, so those of
            figures differ.
    """
    root = ElementTree.fromstring(text)
    _put_in_place(root)
    used: set[str] = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            used.update(_URL.findall(value))
            if key == _HREF:
                used.add(value.removeprefix("#"))
    ids = {old: f"{name}-{number}" for number, old in enumerate(sorted(used), 1)}
    classes = _Classes()
    parts = [_element(child, ids, classes) for child in root if _tag(child) != "metadata"]
    sizes = "".join(
        f' {key}="{_rounded(root.get(key, ""))}"' for key in ("width", "height", "viewBox")
    )
    rules = "*{stroke-linejoin:round;stroke-linecap:butt}" + classes.rules(name)
    opening = f'<svg id="{name}" xmlns="http://www.w3.org/2000/svg"{sizes}>'
    return f"{opening}<style>{rules}</style>{''.join(parts)}</svg>"


def _put_in_place(root: ElementTree.Element) -> None:
    """Puts a shape without a look of its own where it is used, if that is a single place."""
    shapes: dict[str, tuple[ElementTree.Element, ElementTree.Element]] = {}
    for defs in root.iter(f"{_SVG}defs"):
        for shape in defs.findall(f"{_SVG}path"):
            if set(shape.attrib) == {"id", "d"}:
                shapes[f"#{shape.get('id')}"] = defs, shape
    uses: dict[str, list[ElementTree.Element]] = {}
    for use in root.iter(f"{_SVG}use"):
        uses.setdefault(use.attrib[_HREF], []).append(use)
    for name, (defs, shape) in shapes.items():
        if len(uses.get(name, ())) == 1:
            use = uses[name][0]
            by = float(use.attrib.pop("x", "0")), float(use.attrib.pop("y", "0"))
            use.tag = shape.tag
            use.attrib["d"] = _moved(shape.attrib["d"], by)
            del use.attrib[_HREF]
            defs.remove(shape)


def _hand_down(group: ElementTree.Element) -> None:
    """Says the look of all marks of a line once, at their group.

    A look that marks do not take over from their group stays where it is.
    """
    looks = {mark.get("style", "") for mark in group}
    is_line = (
        "clip-path" in group.attrib
        and len(group) > 1
        and all(_tag(mark) == "use" for mark in group)
    )
    if (
        is_line
        and "style" not in group.attrib
        and len(looks) == 1
        and not _OWN.search(look := looks.pop())
    ):
        group.set("style", look)
        for mark in group:
            mark.attrib.pop("style", None)


class _Classes:
    """A short class for each look."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._fresh = _class_names()

    def of(self, style: str) -> str:
        style = re.sub(r"([:;]) +", r"\1", style)
        if style not in self._names:
            self._names[style] = next(self._fresh)
        return self._names[style]

    def rules(self, name: str) -> str:
        return "".join(f"#{name} .{own}{{{style}}}" for style, own in self._names.items())


def _class_names() -> Iterator[str]:
    """Counts a, b, ..., z, a1, b1, ..."""
    for number in count():
        for letter in ascii_lowercase:
            yield f"{letter}{number or ''}"


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _element(element: ElementTree.Element, ids: dict[str, str], classes: _Classes) -> str:
    """Writes an element and its children; a group that says nothing leaves its children alone."""
    tag = _tag(element)
    attributes = ""
    if tag == "style":
        return ""
    if tag == "g":
        _hand_down(element)
    for key, value in element.attrib.items():
        key = key.rpartition("}")[2]
        if key == "style" and value:
            key = "class"
            value = classes.of(_URL.sub(lambda found: ids[found[0]], value))
        elif key == "id":
            value = ids.get(value, "")
        elif key == "href":
            value = "#" + ids[value.removeprefix("#")]
        elif key == "clip-path":
            value = _URL.sub(lambda found: ids[found[0]], value)
        elif key == "d":
            value = _path(value)
        elif key in _ROUNDED:
            value = _rounded(_PLAIN.sub("", value)).strip()
        attributes += f' {key}="{escape(value, quote=True)}"' if value else ""
    own = escape(element.text, quote=False) if element.text and tag in ("text", "tspan") else ""
    inside = own + "".join(_element(child, ids, classes) for child in element)
    if tag in ("g", "defs") and not (attributes and inside):
        return inside if tag == "g" else f"<defs>{inside}</defs>" * bool(inside)
    return f"<{tag}{attributes}>{inside}</{tag}>" if inside else f"<{tag}{attributes}/>"


def _rounded(text: str) -> str:
    """Rounds the decimal numbers of a text to ``DIGITS``."""
    return _NUMBER.sub(lambda found: _decimal(round(float(found[0]) * 10**DIGITS)), text)


def _decimal(units: int) -> str:
    """Writes a number without a leading zero: ``-50`` hundredths are ``-.5``."""
    whole, part = divmod(abs(units), 10**DIGITS)
    fraction = f".{part:0{DIGITS}d}".rstrip("0") if part else ""
    return f"{'-' if units < 0 else ''}{whole or ('' if fraction else '0')}{fraction}"


def _moved(path: str, by: tuple[float, float]) -> str:
    """Moves a path."""
    axes = cycle(by)
    return " ".join(
        text if text in "MLCQz" else str(float(text) + next(axes)) for text in _TOKEN.findall(path)
    )


def _path(text: str) -> str:
    """Writes the same path in relative steps.

    Each step is between rounded points, so that errors do not add up.
    """
    tokens = iter(_TOKEN.findall(text))
    parts: list[str] = []
    here = (0, 0)
    first = (0, 0)
    for command in tokens:
        if command == "z":
            parts.append("z")
            here = first
            continue
        points = [_point(tokens) for _ in range(_PAIRS[command])]
        steps = [(x - here[0], y - here[1]) for x, y in points]
        here = points[-1]
        if command == "M":
            first = here
            parts.append("M" + _numbers(here))
        elif command == "L" and steps[0] == (0, 0) and not parts[-1].startswith("M"):
            continue
        elif command == "L" and 0 in steps[0]:
            parts.append(
                f"v{_decimal(steps[0][1])}" if steps[0][0] == 0 else f"h{_decimal(steps[0][0])}"
            )
        else:
            parts.append(command.lower() + _numbers(chain.from_iterable(steps)))
    return "".join(parts)


def _point(tokens: Iterator[str]) -> tuple[int, int]:
    """Takes the next two numbers, in the smallest unit."""
    x = round(float(next(tokens)) * 10**DIGITS)
    y = round(float(next(tokens)) * 10**DIGITS)
    return x, y


def _numbers(units: Iterable[int]) -> str:
    """Writes numbers, with a space only where the next one has no sign."""
    return " ".join(_decimal(number) for number in units).replace(" -", "-")
