"""Takes device models as classes and as objects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from cdc_flower.core.errors import UserError
from cdc_flower.core.held import NAME, TARGET, Held, class_path, described, held, snake_case
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.registry import ModelFacts, models

#: Arguments that data give to models of items, and of clips.
MADE_BY_DATA = ("num_items", "clips", "num_answers")


def model_node(value: object, settings: Mapping[str, object]) -> Held:
    """Makes the node of a device model that is given in Python.

    Args:
        value: A class or an object.
        settings: Configured hyper-parameters of a class.

    Raises:
        UserError: If it is no device model, or a hyper-parameter is wrong.
    """
    if _is_module(value):
        return _module_node(value, settings)
    value = device_model(value)
    kind = value if isinstance(value, type) else type(value)
    found = next((entry for entry in models.entries() if entry.value is kind), None)
    name = snake_case(kind.__name__) if found is None else found.name
    facts = ModelFacts() if found is None else found.facts
    node = held(value, name, "model", settings, MADE_BY_DATA)
    length = getattr(value, "history_length", None)  # a class has it among its options
    whole = {**node, "history_length": length} if isinstance(length, int) else node
    return Held(value, whole, node.settings, str(getattr(value, "reads", facts.reads)))


def device_model(value: object) -> object:
    """Takes a class or an object that is a device model.

    Raises:
        UserError: If it is something else. The text says how a module becomes one.
    """
    kind = value if isinstance(value, type) else type(value)
    if issubclass(kind, DeviceModel):
        return value
    hint = ""
    if issubclass(kind, nn.Module):
        hint = '; write cdc_flower.DeviceModel.from_module(module, adaptive=["head"])'
    raise UserError(
        f"model must be a name, or a cdc_flower.DeviceModel or a class of them, "
        f"got {kind.__name__}{hint}"
    )


@dataclass(frozen=True)
class ModuleMaker:
    """Makes a device model of a plain module when the data are known.

    Attributes:
        make: ``DeviceModel.from_module``.
        module: The module, or a class of modules.
        settings: Its other arguments.
    """

    make: Callable[..., DeviceModel]
    module: object
    settings: Mapping[str, object]

    def for_data(self, **given: object) -> DeviceModel:
        """Makes it for as many items as the data have."""
        return self.make(self.module, **given, **self.settings)


def _is_module(value: object) -> bool:
    kind = value if isinstance(value, type) else type(value)
    has_door = hasattr(DeviceModel, "from_module")
    return has_door and issubclass(kind, nn.Module) and not issubclass(kind, DeviceModel)


def _module_node(value: object, settings: Mapping[str, object]) -> Held:
    """Makes the node of a module; its maker checks the settings, which are arguments of both."""
    kind = value if isinstance(value, type) else type(value)
    maker = ModuleMaker(getattr(DeviceModel, "from_module"), value, dict(settings))  # noqa: B009
    plain = {name: described(each) for name, each in settings.items()}
    return Held(maker, {**plain, NAME: snake_case(kind.__name__), TARGET: class_path(value)})
