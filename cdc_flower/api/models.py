"""Takes device models as classes and as objects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from torch import nn

from cdc_flower.core.errors import UserError
from cdc_flower.core.held import Held, class_path, described, held
from cdc_flower.core.options import checked_values
from cdc_flower.core.registry import NAME, snake_case
from cdc_flower.core.targets import TARGET
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.from_module import from_module, is_module_class, module_options
from cdc_flower.models.registry import ModelFacts, models

#: Arguments that data give to models of items, and of clips.
MADE_BY_DATA = ("num_items", "clips", "num_answers")
#: Options of a module that is there already.
OF_INSTANCES = ("adaptive", "history_length")


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
        UserError: If it is something else.
    """
    kind = value if isinstance(value, type) else type(value)
    if issubclass(kind, DeviceModel):
        return value
    raise UserError(
        "model must be a name, or a cdc_flower.DeviceModel, a torch.nn.Module or a class of them, "
        f"got {kind.__name__}"
    )


@dataclass(frozen=True)
class ModuleMaker:
    """Makes a device model of a plain module when the data are known.

    Attributes:
        module: The module, or a class of modules.
        settings: Checked; other arguments of :func:`~cdc_flower.models.from_module.from_module`.
    """

    module: nn.Module | type[nn.Module]
    settings: Mapping[str, object]

    def for_data(self, **given: object) -> DeviceModel:
        """Makes it for as many items as the data have."""
        make: Callable[..., DeviceModel] = from_module  # it checks what it is given
        return make(self.module, **given, **self.settings)


def _is_module(value: object) -> TypeGuard[nn.Module | type[nn.Module]]:
    return isinstance(value, nn.Module) or is_module_class(value)


def _module_node(value: nn.Module | type[nn.Module], settings: Mapping[str, object]) -> Held:
    """Makes the node of a module; of an instance only the arguments of its class are fixed.

    Args:
        value: An instance or a class of modules.
        settings: Configured options.

    Raises:
        UserError: If a key is none, or a value is out of its range.
    """
    kind = value if isinstance(value, type) else type(value)
    options = module_options(kind)
    if not isinstance(value, type):
        options = {name: options[name] for name in OF_INSTANCES}
    checked = checked_values(options, settings, "model")
    plain = {name: described(each.default) for name, each in options.items()}
    told = {**plain, **{name: described(each) for name, each in checked.items()}}
    weights = {} if isinstance(value, type) else {"content": described(_values_of(value))}
    maker = ModuleMaker(value, checked)
    return Held(
        maker, {**told, **weights, NAME: snake_case(kind.__name__), TARGET: class_path(kind)}
    )


def _values_of(module: nn.Module) -> np.ndarray:
    """Puts all parameters of a module in a row, as floats."""
    values = [value.detach().double().cpu().numpy().ravel() for value in module.parameters()]
    return np.concatenate([np.empty(0), *values])
