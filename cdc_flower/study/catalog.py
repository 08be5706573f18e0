"""Lists all that has a name: kinds, names, and what each file says of itself and its options.

``kinds`` is the one place that knows where names come from: today the YAML files of the
configuration groups with their headers, and the tables of codecs and reference lines.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path

import yaml

from cdc_flower.configs.methods import method_files
from cdc_flower.core.errors import UserError, nearest_name, unknown_name
from cdc_flower.core.options import option_rows, options_of
from cdc_flower.study.plugins import REGISTRIES, OwnEntry, own_entries

#: Kind -> the configuration group whose files are its names.
GROUPS = {
    "strategies": "strategy",
    "models": "model",
    "tasks": "task",
    "data": "data",
    "networks": "network",
    "policies": "policy",
    "attacks": "attack",
    "fleets": "fleet",
    "grids": "grid",
    "experiments": "experiment",
}


@dataclass(frozen=True)
class Option:
    """Holds one option of a name.

    Attributes:
        name: Its key below the name's group.
        default: As one writes it on the command line.
        meaning: What it does, its unit and its neutral value.
        range: Which values it may have; empty where the meaning says it.
    """

    name: str
    default: str
    meaning: str = ""
    range: str = ""


@dataclass(frozen=True)
class Entry:
    """Holds what there is to say of a name.

    Attributes:
        kind: Such as ``strategies``.
        name: Such as ``persona``.
        summary: One sentence.
        notes: Further sentences.
        commands: Command lines that use it.
        options: What can be set.
        place: The file that says so.
        paper: Of a method, as one cites it.
    """

    kind: str
    name: str
    summary: str
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    place: str = ""
    paper: str = ""


Entries = Mapping[str, Entry]


def kinds() -> dict[str, Callable[[], Entries]]:
    """Kind -> what gives its entries by name. Registries are plugged in here."""
    of_groups = {kind: partial(_named, kind, group) for kind, group in GROUPS.items()}
    return {**of_groups, "codecs": _codecs, "references": _references}


def entries_of(kind: str) -> Entries:
    """Lists the entries of a kind by name.

    Raises:
        UserError: If there is no such kind.
    """
    known = kinds()
    if kind not in known:
        raise unknown_name("kind", kind, known, "list")
    return known[kind]()


def described(name: str) -> list[Entry]:
    """Lists the entries of a name; of several kinds where the name is of several.

    Args:
        name: Such as ``persona``, or ``KIND/NAME``.

    Raises:
        UserError: If nothing has the name.
    """
    kind, _, plain = name.rpartition("/")
    if kind:
        entries = entries_of({group: kind for kind, group in GROUPS.items()}.get(kind, kind))
        if plain not in entries:
            raise unknown_name("name", plain, entries, f"describe {kind}")
        return [_cited(entries[plain])]
    every = {kind: entries_of(kind) for kind in kinds()}
    found = [_cited(entries[name]) for entries in every.values() if name in entries]
    if not found:
        near = nearest_name(name, {known for entries in every.values() for known in entries})
        hint = f"did you mean {near!r}? " if near else ""
        raise UserError(f"describe: nothing is named {name!r}; {hint}(cdc-flower list shows all)")
    return found


@cache
def entries_of_group(group: str) -> Entries:
    """Lists the files of one of the package's configuration groups by name."""
    kind = next((kind for kind, known in GROUPS.items() if known == group), group)
    paths = _files_of(group)
    texts = {name: path.read_text("utf-8") for name, path in paths.items()}
    return {
        name: Entry(
            kind,
            name,
            *_header(text),
            options=tuple(_options(text, texts)),
            place=_place(paths[name]),
        )
        for name, text in texts.items()
    }


def _named(kind: str, group: str) -> Entries:
    """Lists the files of a group, and beside them what plug-ins and installed packages register."""
    listed = dict(entries_of_group(group))
    for entry in own_entries(kind) if kind in REGISTRIES else ():
        if entry.name not in listed:
            choice = f"strategies=[static,{entry.name}]"
            listed[entry.name] = Entry(
                kind,
                entry.name,
                _first_line(entry.value),
                commands=(
                    f"cdc-flower {choice if kind == 'strategies' else f'{group}={entry.name}'}",
                ),
                options=tuple(_rows(entry)),
                place=str(getattr(entry.value, "__module__", "")),
            )
    return dict(sorted(listed.items()))


def _first_line(value: object) -> str:
    """Takes the first line of a class's own docstring."""
    return inspect.cleandoc(vars(value).get("__doc__") or "").partition("\n")[0]


def _rows(entry: OwnEntry) -> Iterator[Option]:
    """Lists the options of what others registered."""
    if not isinstance(entry.value, type):
        return
    for name, default, words, doc in option_rows(options_of(_played(entry.value))):
        yield Option(name, default, doc, words)


def _played(kind: type) -> type:
    """Takes the class that is played: one of Flower's has options of training on devices too."""
    from flwr.serverapp.strategy import Strategy

    from cdc_flower.strategies.stock import on_devices

    try:
        return on_devices(kind) if issubclass(kind, Strategy) else kind
    except UserError:  # it is refused when it is to be played; a list shows it all the same
        return kind


def _files_of(group: str) -> Mapping[str, Path]:
    """Lists the YAML files of a group by name; those of methods lie beside their code."""
    if group == GROUPS["strategies"]:
        return method_files()
    folder = Path(str(files("cdc_flower.configs"))) / group
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _place(path: Path) -> str:
    """Names a file from the package on; one of another package by its whole path."""
    package = Path(str(files("cdc_flower")))
    inside = path.is_relative_to(package)
    return (path.relative_to(package.parent) if inside else path).as_posix()


def _header(text: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Reads summary, notes and commands in the comment that a file starts with."""
    comment = re.match(r"(#.*\n)*", text)
    lines = [line.removeprefix("#").strip() for line in (comment[0] if comment else "").split("\n")]
    lines = [line for line in lines if line and not line.startswith("@package")]
    commands = tuple(line for line in lines if line.startswith("cdc-flower "))
    words = [line for line in lines if not line.startswith("cdc-flower")]
    return (words[0] if words else ""), tuple(words[1:]), commands


def _options(text: str, texts: Mapping[str, str]) -> Iterator[Option]:
    """Lists the keys of a file, and of those of its group that it starts from, with comments."""
    values = yaml.safe_load(text) or {}
    inherited: dict[str, Option] = {}
    for parent in values.pop("defaults", []):
        if isinstance(parent, str) and parent in texts:
            inherited |= {option.name: option for option in _options(texts[parent], texts)}
    comments = dict(_comments(text))
    for key, value in _flat(values):
        meaning = comments.get(key, "") or (inherited[key].meaning if key in inherited else "")
        shown = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
        inherited[key] = Option(key, shown.removesuffix("...").strip(), meaning)
    yield from (option for key, option in inherited.items() if key != "name")


def _flat(values: Mapping[str, object], start: str = "") -> Iterator[tuple[str, object]]:
    """Lists dotted keys and their values."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{start}{key}.")
        else:
            yield f"{start}{key}", value


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Lists dotted keys and the comments behind them."""
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = re.match(r"( *)([\w.]+):(.*)$", line)
        if not found:
            continue
        above = [*(each for each in above if each[0] < len(found[1])), (len(found[1]), found[2])]
        comment = re.search(r"\s#\s*(.*)$", found[3])
        yield ".".join(key for _, key in above), comment[1] if comment else ""


def _codecs() -> Entries:
    """Lists codecs in the order of their stages, with the first line of each."""
    from cdc_flower.simulations.protocol.codecs import codecs
    from cdc_flower.simulations.protocol.encoding import ordered_codecs

    return {
        name: Entry(
            "codecs",
            name,
            (codecs[name].value.__doc__ or "").splitlines()[0],
            commands=(f"cdc-flower protocol.codecs=[{name}]",),
            place=f"{codecs[name].value.__module__.replace('.', '/')}.py",
        )
        for name in ordered_codecs()
    }


def _references() -> Entries:
    """Lists reference lines."""
    from cdc_flower.tasks.registry import tasks

    lines = {
        line.name: line.value
        for entry in tasks.entries()
        for line in entry.value.references.entries()
    }
    return {
        name: Entry(
            "references",
            name,
            (line.__doc__ or "").splitlines()[0],
            commands=(f"cdc-flower references=[{name}]",),
            place=f"{line.__module__.replace('.', '/')}.py",
        )
        for name, line in lines.items()
    }


def _cited(entry: Entry) -> Entry:
    """Adds the paper of a method, and the range of each option, as its class says them."""
    if entry.kind != "strategies":
        return entry
    from cdc_flower.strategies.registry import strategies

    known = strategies[entry.name]
    rows = option_rows(options_of(_played(known.value)))
    options = tuple(Option(name, default, doc, words) for name, default, words, doc in rows)
    paper = known.facts.paper
    cited = f"{paper.text} arXiv:{paper.arxiv}" if paper else ""
    return replace(entry, options=options, paper=cited)
