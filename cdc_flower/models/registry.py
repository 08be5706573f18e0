"""Device models by name, found by scanning this folder, and their options.

A model is registered with what it ``reads``, such as items or clips, and with the names of what
only the data can give, such as ``num_items``. Everything else that it takes is an option of the
configured ``model``. A new one for items takes ``num_items``, ``width`` and ``history_length``::

    @models.register("gru4rec")
    class GRU4Rec(DeviceModel): ...

A plain ``nn.Module`` may stand there too; see :mod:`cdc_flower.models.from_module`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from cdc_flower.core.errors import UserError
from cdc_flower.core.held import Held
from cdc_flower.core.options import Option, check_options, checked_values, option, options_of
from cdc_flower.core.registry import NODE_OPTIONS, Entry, Registry
from cdc_flower.core.targets import TARGET, Shape, derived_from
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.from_module import configured_module, is_module_class, module_options


@dataclass(frozen=True, kw_only=True)
class SequenceOptions:
    """Options of a model that reads the last items of a device."""

    name: str = option("", doc="of the model")
    width: int = option(32, least=1, doc="of embeddings and states")
    history_length: int = option(10, least=1, doc="items that the model sees before an event")
    head_sizes: list[int] | None = option(
        None, doc="widths between the layers of the head; null: as in the papers"
    )
    adaptive: list[str] = option(
        default_factory=lambda: ["head"],
        doc="layers that differ between devices: [head], or the last ones of it, as [head.1]",
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a device model that are known before there are data.

    Attributes:
        reads: What it ranks by: ``items`` or ``clips``, or a word that a task of your own takes.
        given: Names of its arguments that the data give.
        options: A dataclass of its options; None: its other arguments are its options.
    """

    reads: str = "items"
    given: tuple[str, ...] = ("num_items",)
    options: type | None = None


Maker = Callable[..., DeviceModel]
_MADE_HERE = derived_from(DeviceModel, or_a_function=True)
models: Registry[Maker, ModelFacts] = Registry(
    "model",
    "models",
    ModelFacts,
    "cdc_flower.models",
    Shape(
        "a class that derives from DeviceModel or torch.nn.Module, or a function that makes one",
        lambda value: is_module_class(value) or _MADE_HERE.fits(value),
    ),
)


def find_model(node: Mapping[str, object]) -> Entry[Maker, ModelFacts]:
    """Finds a configured model.

    Raises:
        UserError: If there is none, or it does not take what the data give.
    """
    entry = models.of_node(node, "model")
    missing = [name for name in entry.facts.given if name not in options_of(entry.value)]
    if TARGET in node and missing and not is_module_class(entry.value):
        raise UserError(
            f"model.{TARGET}: {node[TARGET]} must take {' and '.join(missing)}, which the data "
            "give; its class attribute given lists what it takes of them"
        )
    return entry


def model_options(node: Mapping[str, object]) -> dict[str, Option]:
    """Lists the options of a configured model by name.

    Raises:
        UserError: If there is no such model.
    """
    entry = find_model(node)
    if entry.facts.options is not None:
        return {**NODE_OPTIONS, **options_of(entry.facts.options)}
    if is_module_class(entry.value):
        return {**NODE_OPTIONS, **module_options(entry.value)}
    return entry.options(entry.facts.given)


def checked_model(node: Mapping[str, object]) -> dict[str, object]:
    """Checks a configured model: its name, every key, and every value in its range.

    Raises:
        UserError: If something is wrong.
    """
    checked = checked_values(model_options(node), node, "model")
    options = find_model(node).facts.options
    if options is not None:
        try:
            # What concerns two values at once.
            options(**{key: value for key, value in checked.items() if key != TARGET})
        except ValueError as error:
            raise UserError(f"model.{error}") from error
    return checked


def model_of(node: Mapping[str, object], **given: object) -> DeviceModel:
    """Makes a configured model.

    Args:
        node: The configured ``model``.
        given: What the data give, such as ``num_items``.

    Raises:
        UserError: If a value is wrong, or does not fit the data.
    """
    if isinstance(node, Held):
        return _held_model(node, given)
    entry = find_model(node)
    arguments = entry.arguments(checked_model(node))
    if is_module_class(entry.value):
        return configured_module(entry.value, arguments, given)
    try:
        model = entry.value(**given, **arguments)
    except ValueError as error:
        raise UserError(f"model.{error}") from error
    except TypeError as error:
        if TARGET not in node:
            raise
        raise UserError(f"model: {error}") from error
    if not isinstance(model, DeviceModel):
        raise UserError(f"model: {entry.name} must make a DeviceModel, got {type(model).__name__}")
    return model


def reads_of(node: Mapping[str, object]) -> str:
    """Tells what a configured model ranks by.

    Raises:
        UserError: If there is no such model.
    """
    if isinstance(node, Held):
        return node.fits
    return find_model(node).facts.reads


def _held_model(node: Held, given: Mapping[str, object]) -> DeviceModel:
    """Makes a model of a class of the user's own, or takes the model, if it fits the data."""
    if hasattr(node.value, "for_data"):  # of something that is no device model yet
        return cast(DeviceModel, node.value.for_data(**given))
    if isinstance(node.value, type):
        taken = options_of(node.value)
        own = {name: value for name, value in given.items() if name in taken}
        return cast(DeviceModel, node.made("model", **own))
    for name, value in given.items():
        if isinstance(value, int) and getattr(node.value, name, value) != value:
            raise UserError(
                f"model.{name} must be {value}, as the data have, "
                f"got {getattr(node.value, name)}; a class is made for the data"
            )
    return cast(DeviceModel, node.value)
