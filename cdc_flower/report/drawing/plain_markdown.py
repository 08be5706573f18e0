"""Turns the Markdown of written summaries into HTML: headings, tables, lists, paragraphs, bold."""

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby

STARTS = {"|": "table", "- ": "list", "#": "heading"}


def to_html(text: str) -> str:
    """Turns Markdown into HTML.

    Each line is a heading, a row of a table, an item of a list, or a paragraph.
    """
    parts = []
    for kind, group in groupby((line for line in text.splitlines() if line.strip()), _kind):
        lines = list(group)
        if kind == "table":
            parts.append(_table(lines))
        elif kind == "list":
            parts.append(f"<ul>{''.join(f'<li>{_inline(line[2:])}</li>' for line in lines)}</ul>")
        elif kind == "heading":
            parts += [
                f"<h{_level(line)}>{_inline(line.lstrip('# '))}</h{_level(line)}>" for line in lines
            ]
        else:
            parts += [f"<p>{_inline(line)}</p>" for line in lines]
    return "\n".join(parts)


def _kind(line: str) -> str:
    return next((kind for start, kind in STARTS.items() if line.startswith(start)), "text")


def _level(line: str) -> int:
    return len(line) - len(line.lstrip("#"))


def _table(lines: Sequence[str]) -> str:
    """Makes a table; the first line is the head, and the second separates it from the rest."""
    rows = []
    for k, line in enumerate([*lines[:1], *lines[2:]]):
        tag = "td" if k else "th"
        cells = (
            cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")
        )
        rows.append(f"<tr>{''.join(f'<{tag}>{_inline(cell)}</{tag}>' for cell in cells)}</tr>")
    return f"<div class='scroll'><table>{''.join(rows)}</table></div>"


def _inline(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(text))
