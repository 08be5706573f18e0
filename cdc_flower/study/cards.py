"""Writes what cards say of options, and the table of all strategies, from what methods declare.

    python -m cdc_flower.study.cards --write

Without ``--write`` it names the cards that say something else. The generated part of a file is the
table between two comments, which a new card has to have.
"""

import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from cdc_flower.configs.methods import method_files
from cdc_flower.core.errors import UserError
from cdc_flower.core.options import Option, option_rows, options_of
from cdc_flower.strategies.registry import strategies
from cdc_flower.study.catalog import entries_of

_BEGIN, _END = "<!-- generated: python -m cdc_flower.study.cards --write -->", "<!-- end -->"
_NOTHING = "–"


def cards() -> dict[Path, str]:
    """Lists each card of this package, and the table of all, with the text that it should have.

    Raises:
        UserError: If a card has no place for its table.
    """
    folder = Path(str(files("cdc_flower.strategies")))
    found = {folder / "README.md": "\n".join(_strategy_rows())}
    for name, path in method_files().items():
        if path.is_relative_to(folder):
            found[path.with_name("README.md")] = "\n".join(_options_table(name))
    return {path: _with_table(path, table) for path, table in found.items()}


def _strategy_rows() -> Iterator[str]:
    yield "| name | in the cloud | up | down | labels |"
    yield "|---|---|---|---|---|"
    summaries = entries_of("strategies")
    for entry in strategies.entries():
        facts, link = entry.facts, f"[`{entry.name}`]({entry.name}/README.md)"
        cells = (link, summaries[entry.name].summary, facts.up, facts.down, facts.labels)
        yield _row(*(cell or _NOTHING for cell in cells))


def _options_table(name: str) -> Iterator[str]:
    options = options_of(strategies[name].value)
    if not options:
        yield "It has no options."
        return
    yield _row(f"`strategy.{name}.`", "default", "neutral", "range", "meaning")
    yield "|---|---|---|---|---|"
    for (key, default, words, doc), option in zip(
        option_rows(options), options.values(), strict=True
    ):
        yield _row(f"`{key}`", default, _neutral(option), words, doc)


def _neutral(option: Option) -> str:
    value = option.rule.neutral
    return (
        _NOTHING if value is None else str(value).lower() if value in (True, False) else f"{value}"
    )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _with_table(path: Path, table: str) -> str:
    """Takes the text of a file with a new table in its place."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    parts = re.split(f"({re.escape(_BEGIN)}\n).*?({_END})", text, flags=re.DOTALL)
    if len(parts) != 4:
        raise UserError(f"{path} must have the lines {_BEGIN} and {_END} once, for its table")
    return f"{parts[0]}{parts[1]}{table}\n{parts[2]}{parts[3]}"


def main(arguments: list[str]) -> int:
    """Writes the cards, or names those that differ.

    Returns:
        1 where a card differs and nothing was to be written.
    """
    differing = [path for path, text in cards().items() if path.read_text("utf-8") != text]
    for path in differing:
        if "--write" in arguments:
            path.write_text(cards()[path], encoding="utf-8")
        print(path)
    return int(bool(differing) and "--write" not in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
