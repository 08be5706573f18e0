"""Holds the style sheet of pages, and templates that escape all that they are not told to trust.

Templates are strings, since a bundle of Flower's carries Python but no HTML.
"""

from collections.abc import Sequence

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

CSS = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #222; font: 15px/1.55 system-ui, -apple-system, \
"Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 36px 28px 72px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 40px 0 10px; }
h3 { font-size: 14px; margin: 18px 0 6px; }
p { max-width: 78ch; margin: 8px 0; }
a { color: #0b5a99; }
.facts, .note, figcaption { color: #5c5c5c; font-size: 13px; }
.facts { margin-top: 0; }
.reading { font-size: 16.5px; margin: 18px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; \
margin: 8px 0; }
th, td { padding: 5px 9px; text-align: right; white-space: nowrap; \
border-bottom: 1px solid #e9e9e9; }
th { color: #5c5c5c; font-weight: 600; vertical-align: bottom; \
border-bottom: 1.5px solid #b5b5b5; }
tr.groups th { border-bottom: 0; padding-bottom: 0; text-align: center; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.best { font-weight: 650; }
td .half { color: #757575; font-weight: 400; }
td i { display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 8px; }
figure { margin: 0; }
figure svg { width: 100%; height: auto; display: block; }
figure svg text, figure svg tspan { font-family: system-ui, -apple-system, "Segoe UI", \
Roboto, "Helvetica Neue", Arial,
  sans-serif !important; }
figcaption { max-width: 100ch; margin-top: 6px; }
code, pre { font: 12.5px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: #f6f6f6; padding: 10px 12px; border-radius: 4px; overflow-x: auto; \
margin: 8px 0; }
details { margin: 8px 0; }
summary { cursor: pointer; color: #0b5a99; font-size: 13.5px; }
ul { padding-left: 20px; }
@media print { main { max-width: none; padding: 0; } figure, table { break-inside: avoid; } }
"""

_ENVIRONMENT = Environment(
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def template(text: str) -> Template:
    """Compiles a template; values that are no ``Markup`` are escaped."""
    return _ENVIRONMENT.from_string(text)


def filled(template: Template, **values: object) -> Markup:
    """Fills a template, and gives HTML that other templates take as it is."""
    return Markup(template.render(values))


_PAGE = template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ title }}</title>
{% if fits_screens %}
<meta name="viewport" content="width=device-width, initial-scale=1">
{% endif %}
<style>{{ css }}</style>
</head>
<body>
<main>
{% for part in parts %}
{{ part }}
{% endfor %}
</main>
</body>
</html>
"""
)
_FIGURE = template(
    """<figure id='{{ name }}'><h2>{{ title }}</h2>{{ picture }}<figcaption>"""
    """<b>Figure {{ number }}.</b> {{ caption }}"""
    """{% if sources %} <span class='source'>{{ sources }}</span>{% endif %}"""
    """</figcaption></figure>"""
)


def page(title: str, parts: Sequence[Markup], *, fits_screens: bool = True) -> str:
    """Makes a whole page that needs nothing beside it.

    Args:
        title: Of the window.
        parts: Sections, from top to bottom.
        fits_screens: Whether small screens show it at their own width.
    """
    return _PAGE.render(title=title, parts=parts, css=Markup(CSS), fits_screens=fits_screens)


def figure(
    name: str, number: int, title: str, picture: Markup, caption: str, sources: str | Markup = ""
) -> Markup:
    """Makes a numbered figure with its caption.

    Args:
        name: Its id.
        number: From 1.
        title: Above it.
        picture: An SVG element.
        caption: Below it.
        sources: Behind the caption: where the figure comes from.
    """
    return filled(
        _FIGURE,
        name=name,
        number=number,
        title=title,
        picture=picture,
        caption=caption,
        sources=sources,
    )
