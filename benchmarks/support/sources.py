"""Measures the structure of the package from its source text; nothing of it is imported or run.

Each measure takes the files and lists places, as ``cdc_flower/wire/batch.py:12 name``, so that who
reads a number can go there. This file imports the standard library alone, for tests load it by its
path.
"""

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "cdc_flower"
#: In the order of their arrows: a room may import from itself and from rooms before it.
ROOMS = (
    "core",
    "wire",
    "models",
    "tables",
    "training",
    "devices",
    "tasks",
    "strategies",
    "simulations",
    "report",
    "study",
    "api",
    "doors",
)
DOORS = frozenset({"cli", "client_app", "server_app"})
LONGEST_LINE, LONGEST_FUNCTION, MOST_PARAMETERS, ARGS_FROM = 100, 60, 8, 3
#: Openings of a docstring that names a thing where a verb should say who does what.
NOUN_CLAUSE = re.compile(r"(What|How|Those|That which|The .* (that|which|of what))\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file of the package.

    Attributes:
        name: Its path from the root of the repository.
        text: Its content.
    """

    name: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """Its lines."""
        return self.text.splitlines()

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Its syntax tree, flat, from top to bottom."""
        nodes = ast.walk(ast.parse(self.text))
        return sorted(nodes, key=lambda node: getattr(node, "lineno", 0))

    @cached_property
    def tokens(self) -> list[tokenize.TokenInfo]:
        """Its tokens."""
        return list(tokenize.generate_tokens(io.StringIO(self.text).readline))

    def tokens_of(self, kind: int, text: str) -> list[tokenize.TokenInfo]:
        """Lists tokens of a kind that hold a text; a file without the text is not split up."""
        own = self.tokens if text in self.text else []
        return [token for token in own if token.type == kind and text in token.string]

    @property
    def module(self) -> str:
        """Its dotted name."""
        return self.name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    @property
    def functions(self) -> Iterator[Function]:
        """Its functions and methods, nested ones too."""
        return (node for node in self.nodes if isinstance(node, Function))

    def at(self, node: ast.AST, what: str = "") -> str:
        """Names the place of a node."""
        return f"{self.name}:{getattr(node, 'lineno', 1)} {what}".rstrip()


def read_sources(root: Path) -> list[Source]:
    """Reads the files of the package below the root of a repository."""
    paths = sorted((root / PACKAGE).rglob("*.py"))
    return [
        Source(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
        for path in paths
    ]


def room_of(module: str) -> str:
    """Names the room of a module; it is empty for the package itself."""
    head = [*module.split("."), ""][1]
    return "doors" if head in DOORS else head


def root_modules(sources: Sequence[Source]) -> list[str]:
    """Lists the files at the root of the package, beside ``__init__``."""
    own = [source.name for source in sources if source.name.count("/") == 1]
    return [name for name in own if not name.endswith("/__init__.py")]


def rooms(sources: Sequence[Source]) -> list[str]:
    """Lists the folders at the root of the package that hold code, and the doors as one."""
    found = {room_of(source.module) for source in sources if source.text.strip()}
    return sorted(found - {"", "configs"})


def imported_modules(sources: Sequence[Source]) -> dict[str, set[str]]:
    """Lists what each module imports from the package.

    Imports inside functions and under ``TYPE_CHECKING`` count as well. ``from a import b`` is an
    import of the module ``a.b`` if there is one, and of ``a`` if not.
    """
    known = {source.module for source in sources}
    return {source.module: _imports(source, known) - {source.module} for source in sources}


def _imports(source: Source, known: set[str]) -> set[str]:
    found: set[str] = set()
    for node in source.nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found & known


def upward_arrows(sources: Sequence[Source]) -> list[str]:
    """Lists imports from a room that comes later in the order, or from outside of all rooms."""
    found = []
    for module, targets in imported_modules(sources).items():
        here = room_of(module)
        if here not in ROOMS:  # the package's own file and its configurations
            continue
        allowed = {"configs", *ROOMS[: ROOMS.index(here) + 1]}
        found += [f"{module} -> {name}" for name in targets if room_of(name) not in allowed]
    return found


def circles(sources: Sequence[Source]) -> list[str]:
    """Lists groups of modules that import one another, directly or by way of others."""
    arrows = imported_modules(sources)
    reached = {module: _reachable(module, arrows) for module in arrows}
    found: set[tuple[str, ...]] = set()
    for module, others in reached.items():
        same = [other for other in others if module in reached[other]]
        if same:
            found.add(tuple(sorted({module, *same})))
    return [" <-> ".join(group) for group in sorted(found)]


def _reachable(module: str, arrows: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        fresh = arrows[waiting.pop()] - seen
        seen |= fresh
        waiting += fresh
    return seen


def wide_lines(sources: Sequence[Source]) -> list[str]:
    """Lists lines of more than 100 columns."""
    found = []
    for source in sources:
        for number, line in enumerate(source.lines, 1):
            if len(line) > LONGEST_LINE:
                found.append(f"{source.name}:{number} {len(line)} columns")
    return found


def uses_of_any(sources: Sequence[Source]) -> list[str]:
    """Lists every ``Any`` outside of texts and comments, its imports too."""
    found = []
    for source in sources:
        own = source.tokens_of(tokenize.NAME, "Any")
        found += [f"{source.name}:{token.start[0]}" for token in own if token.string == "Any"]
    return found


def long_functions(sources: Sequence[Source]) -> list[str]:
    """Lists functions of more than 60 lines, without their decorators."""
    return _functions(sources, lambda node: num_lines(node) > LONGEST_FUNCTION)


def wide_functions(sources: Sequence[Source]) -> list[str]:
    """Lists functions of more than 8 parameters."""
    return _functions(sources, lambda node: len(parameters(node)) > MOST_PARAMETERS)


def functions_without_args(sources: Sequence[Source]) -> list[str]:
    """Lists public functions of three parameters or more whose docstring has no ``Args:``.

    A method without a docstring fills in one that is documented where it is declared. A command of
    the command line says what a parameter is where it stands.
    """
    return _functions(sources, _lacks_args)


def _lacks_args(node: Function) -> bool:
    doc = ast.get_docstring(node) or ""
    is_counted = not node.name.startswith("_") and len(parameters(node)) >= ARGS_FROM
    is_command = any(".command" in ast.unparse(decorator) for decorator in node.decorator_list)
    return is_counted and bool(doc) and "Args:" not in doc and not is_command


def _functions(sources: Sequence[Source], is_wanted: Callable[[Function], bool]) -> list[str]:
    found = []
    for source in sources:
        found += [source.at(node, node.name) for node in source.functions if is_wanted(node)]
    return found


def parameters(node: Function) -> list[ast.arg]:
    """Lists what a caller may name or place, without ``self`` and ``cls``."""
    own = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [arg for arg in own if arg.arg not in ("self", "cls")]


def num_lines(node: Function) -> int:
    """Counts the lines of a function from ``def`` on."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def noun_docstrings(sources: Sequence[Source]) -> list[str]:
    """Lists functions whose docstring opens with a noun clause; a property may, being a thing."""
    return _functions(
        sources,
        lambda node: bool(NOUN_CLAUSE.match(ast.get_docstring(node) or "")) and not _is_value(node),
    )


def _is_value(node: Function) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def tuple_assignments(sources: Sequence[Source]) -> list[str]:
    """Lists assignments of several expressions at once; an exchange of two names is none."""
    found = []
    for source in sources:
        found += [source.at(node) for node in source.nodes if _assigns_tuple(node)]
    return found


def _assigns_tuple(node: ast.AST) -> bool:
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    targets = [target for target in node.targets if isinstance(target, ast.Tuple)]
    values = {ast.unparse(value) for value in node.value.elts}
    return any({ast.unparse(name) for name in target.elts} != values for target in targets)


def nested_comprehensions(sources: Sequence[Source]) -> list[str]:
    """Lists comprehensions with more than one loop."""
    kinds = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    found = []
    for source in sources:
        own = [node for node in source.nodes if isinstance(node, kinds)]
        found += [source.at(node) for node in own if len(node.generators) > 1]
    return found


def comment_lines(sources: Sequence[Source]) -> list[str]:
    """Lists lines that hold a comment, alone or behind code."""
    found = []
    for source in sources:
        own = source.tokens_of(tokenize.COMMENT, "#")
        found += [f"{source.name}:{token.start[0]}" for token in own]
    return found


def places_of(sources: Sequence[Source]) -> dict[str, list[str]]:
    """Lists the places of every measure that has some."""
    return {name: measure(sources) for name, measure in MEASURES.items()}


def numbers_of(sources: Sequence[Source]) -> dict[str, float]:
    """Measures counts of places, shares of lines in percent, and lengths of files."""
    lengths = [len(source.lines) for source in sources if source.lines]
    total = sum(lengths)
    numbers: dict[str, float] = {name: len(found) for name, found in places_of(sources).items()}
    numbers["percent_wide_lines"] = 100 * numbers["wide_lines"] / total
    numbers["percent_comment_lines"] = 100 * numbers["comment_lines"] / total
    numbers["files"] = len(lengths)
    numbers["lines"] = total
    numbers["longest_file"] = max(lengths)
    numbers["median_file"] = statistics.median(lengths)
    return numbers


MEASURES: dict[str, Callable[[Sequence[Source]], list[str]]] = {
    "root_modules": root_modules,
    "rooms": rooms,
    "upward_arrows": upward_arrows,
    "circles": circles,
    "wide_lines": wide_lines,
    "any": uses_of_any,
    "long_functions": long_functions,
    "wide_functions": wide_functions,
    "functions_without_args": functions_without_args,
    "noun_docstrings": noun_docstrings,
    "tuple_assignments": tuple_assignments,
    "nested_comprehensions": nested_comprehensions,
    "comment_lines": comment_lines,
}
#: The most that a number may be.
BARS: dict[str, float] = {
    "root_modules": 4,
    "rooms": len(ROOMS),
    "upward_arrows": 0,
    "circles": 0,
    "percent_wide_lines": 0.49,
    "any": 79,
    "long_functions": 0,
    "wide_functions": 5,
    "functions_without_args": 0,
    "noun_docstrings": 0,
    "tuple_assignments": 300,
    "nested_comprehensions": 40,
    "longest_file": 400,
    "median_file": 150,
}
