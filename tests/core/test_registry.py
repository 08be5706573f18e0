"""Registries: entries come from decorators, found by scanning a folder and by entry points."""

import importlib.metadata
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cdc_flower.core import registry as registry_module
from cdc_flower.core.errors import UserError
from cdc_flower.core.registry import NoFacts, Registry, snake_case
from cdc_flower.core.targets import derived_from
from cdc_flower.study import plugins


@dataclass(frozen=True)
class Facts:
    """Facts of a thing."""

    color: str = "gray"


def things(package: str = "") -> "Registry[object, Facts]":
    return Registry("thing", "things", Facts, package)


def test_a_registered_class_is_found_by_its_name_with_its_facts() -> None:
    registry = things()

    @registry.register("red_one", color="red")
    class Red:
        """Red."""

    assert registry["red_one"].value is Red
    assert registry["red_one"].facts.color == "red"
    assert list(registry) == ["red_one"]
    assert "blue" not in registry


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    registry = things()
    registry.register("red_one")(object())
    with pytest.raises(
        UserError, match=r"^my\.key: unknown thing 'red_on'; did you mean 'red_one'"
    ):
        registry.find("red_on", "my.key")


def test_a_fact_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        things().register("x", colour="red")(object())


def test_two_things_cannot_share_a_name() -> None:
    registry = things()
    registry.register("x")(Facts)
    registry.register("x")(Facts)  # the same again, as when a module is loaded twice
    with pytest.raises(ValueError, match="'x' must be registered once"):
        registry.register("x")(NoFacts)


def test_a_folder_is_scanned_with_those_in_it_at_the_first_look_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scanned_things"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from cdc_flower.core.registry import NoFacts, Registry\n"
        "things = Registry('thing', 'things', NoFacts, 'scanned_things')\n"
    )
    (folder / "one.py").write_text(
        "from scanned_things import things\n\n\n@things.register('one')\nclass One:\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    inner = folder / "inner"
    inner.mkdir()
    (inner / "__init__.py").write_text("")
    (inner / "two.py").write_text(
        "from scanned_things import things\n\n\n@things.register('two')\nclass Two:\n    pass\n"
    )
    from scanned_things import things as scanned  # type: ignore[import-not-found]

    assert "scanned_things.one" not in sys.modules
    assert list(scanned) == ["one", "two"]


def test_an_entry_point_of_an_installed_package_is_an_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = importlib.metadata.EntryPoint("counted", "collections:Counter", "cdc_flower.things")
    monkeypatch.setattr(
        registry_module, "entry_points", lambda group: [point] if group == point.group else []
    )
    assert things()["counted"].value.__name__ == "Counter"  # type: ignore[attr-defined]


def test_an_entry_point_does_not_replace_what_its_module_registered_with_facts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = importlib.metadata.EntryPoint("counted", "collections:Counter", "cdc_flower.things")
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [point])
    registry = things()
    registry.register("counted", color="red")(point.load())
    assert registry["counted"].facts.color == "red"


def test_names_and_entries_are_listed_in_alphabetical_order() -> None:
    registry = things()
    for name in ("b", "c", "a"):
        registry.register(name)(name)
    assert list(registry) == ["a", "b", "c"]
    assert [entry.name for entry in registry.entries()] == ["a", "b", "c"]


def test_an_entry_point_that_cannot_be_imported_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = importlib.metadata.EntryPoint("broken", "no_such_module:X", "cdc_flower.things")
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [point])
    with pytest.raises(UserError, match=r"entry point broken .* must be importable"):
        list(things())


@dataclass(frozen=True)
class NeededFacts:
    """Facts of which one must be said."""

    gives: str
    size: int = 3


def test_facts_are_class_attributes_where_nobody_gave_them() -> None:
    registry: Registry[type, NeededFacts] = Registry("thing", "things", NeededFacts)

    class Said:
        gives = "items"
        size = 4

    class Derived(Said):
        def size(self) -> int:  # type: ignore[override]  # a method is no fact
            return 5

    class Optional:
        def __init__(self, size: int = 9, gives: str = "x") -> None: ...

        gives = "items"

    assert registry.register("said", size=5)(Said) is Said
    assert registry["said"].facts == NeededFacts("items", 5)
    registry.register("derived")(Derived)
    assert registry["derived"].facts == NeededFacts("items", 3)
    with pytest.raises(UserError, match=r"Optional must have the class attribute gives, such as"):
        registry.register("optional")(Optional)  # an option is no fact


def test_a_class_has_the_needed_facts_of_a_registered_one_that_it_derives_from() -> None:
    registry: Registry[type, NeededFacts] = Registry("thing", "things", NeededFacts)

    class Base: ...

    class Derived(Base): ...

    registry.register("base", gives="clips", size=7)(Base)
    registry.register("derived")(Derived)
    assert registry["derived"].facts == NeededFacts("clips", 3)


def test_what_is_of_another_kind_is_refused_by_a_decorator_a_path_and_an_entry_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry: Registry[object, NoFacts] = Registry(
        "thing", "things", NoFacts, shape=derived_from(dict)
    )
    with pytest.raises(UserError, match=r"^thing 'x' must be a class that derives from dict, got "):
        registry.register("x")(list)
    with pytest.raises(UserError, match=r"^key must be a class that derives from dict, got "):
        registry.of_target("collections.deque", "key")
    assert registry.of_target("collections.OrderedDict", "key").name == "ordered_dict"
    point = importlib.metadata.EntryPoint("listed", "collections:deque", "cdc_flower.things")
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [point])
    refused = Registry("thing", "things", NoFacts, shape=derived_from(dict))
    with pytest.raises(UserError, match=r"entry point listed must be a class that derives from"):
        list(refused)


@pytest.mark.parametrize(
    ("name", "written"),
    [("MeanPool", "mean_pool"), ("Nudge", "nudge"), ("HTTPLink", "http_link"), ("A1B", "a1_b")],
)
def test_a_class_is_called_by_its_name_in_snake_case(name: str, written: str) -> None:
    assert snake_case(name) == written


@pytest.mark.parametrize("group", list(plugins.REGISTRIES))
def test_the_group_of_entry_points_of_each_kind_has_its_plural(group: str) -> None:
    assert pkgutil.resolve_name(plugins.REGISTRIES[group]).plural == group
