"""Makes a device model of a plain ``torch.nn.Module``: of an instance, or of a class.

The module's ``forward(history, candidates)`` takes ids ``[B, L]`` and ``[B, C]`` (0 is padding, on
the right of a history) and gives logits ``[B, C]``. ``adaptive`` names the submodules that differ
between devices, as an argument or as an attribute of the class::

    class MeanPool(nn.Module):
        adaptive = ("head",)

        def __init__(self, num_items: int, width: int = 16) -> None:
            super().__init__()
            self.items = nn.Embedding(num_items + 1, width, padding_idx=0)
            self.head = nn.Linear(width, width)

        def forward(self, history, candidates):
            state = self.head(self.items(history).mean(1))
            return (self.items(candidates) @ state.unsqueeze(-1)).squeeze(-1)
"""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from functools import partial
from typing import TypeGuard

from torch import nn

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import Option, Rule, options_of
from cdc_flower.models.module.model import HISTORY_LENGTH, ModuleModel
from cdc_flower.models.module.trials import try_out

#: What only the data can say.
NUM_ITEMS = "num_items"
#: An option of every module, whether its constructor takes it or not.
HISTORY = "history_length"
ADAPTIVE = "adaptive"


def from_module(
    module: nn.Module | Callable[..., nn.Module],
    num_items: int,
    adaptive: Sequence[str] | None = None,
    history_length: int = HISTORY_LENGTH,
    **options: object,
) -> ModuleModel:
    """Makes a device model of a module.

    Args:
        module: An instance, whose values are the initial ones; or a class or function that makes
            one, which draws new values under the seed of each run. It is given ``num_items`` and
            ``history_length`` where it takes them.
        num_items: Items are 1..num_items, and 0 is padding.
        adaptive: Names of submodules or parameters that differ between devices; None: the
            attribute ``adaptive`` of the module.
        history_length: Items that the model sees before an event.
        options: Other arguments of what makes the module.

    Raises:
        UserError: If the module cannot be made or played; the text says why.
    """
    make: Callable[[], nn.Module]
    if isinstance(module, nn.Module):
        if options:
            raise UserError(
                f"model: options are for a class that makes a module, got {next(iter(options))} "
                f"beside an instance of {type(module).__name__}"
            )
        make = partial(copy.deepcopy, module)
    else:
        given = {NUM_ITEMS: num_items, HISTORY: history_length}
        taken = inspect.signature(module).parameters
        make = partial(
            module, **{name: value for name, value in given.items() if name in taken}, **options
        )
    model = ModuleModel(
        partial(_checked, make),
        num_items,
        _adaptive_of(module) if adaptive is None else adaptive,
        history_length,
        keeps_values=isinstance(module, nn.Module),
    )
    try_out(model)
    return model


def is_module_class(value: object) -> TypeGuard[type[nn.Module]]:
    """Tells whether a configured class is one of modules, which :func:`from_module` makes."""
    return inspect.isclass(value) and issubclass(value, nn.Module)


def module_options(kind: type[nn.Module]) -> dict[str, Option]:
    """Lists the options of a class of modules: arguments of its constructor but ``num_items``.

    Beside them stand ``history_length``, and ``adaptive`` with the class's attribute as default.
    """
    own = {name: each for name, each in options_of(kind).items() if name != NUM_ITEMS}
    names = getattr(kind, ADAPTIVE, None)
    default = list(names) if isinstance(names, list | tuple) and names else MISSING
    adaptive = Rule(doc="names of the submodules that differ between devices")
    # The stream cuts histories to this length, so a default of the module's own is not asked.
    length = Rule(doc="items that the model sees before an event", least=1)
    return {
        **own,
        ADAPTIVE: Option(ADAPTIVE, list[str], default, adaptive),
        HISTORY: Option(HISTORY, int, HISTORY_LENGTH, length),
    }


def configured_module(
    kind: type[nn.Module], options: Mapping[str, object], given: Mapping[str, object]
) -> ModuleModel:
    """Makes the device model of a configured class of modules.

    Args:
        kind: The class.
        options: Checked, by :func:`module_options`; those at their defaults may be left out.
        given: What the data give: ``num_items``, and nothing else.

    Raises:
        UserError: As :func:`from_module`, or if the data are of no items.
    """
    if set(given) != {NUM_ITEMS}:
        raise UserError(f"model: {kind.__name__} reads items, got {', '.join(given)}")
    make: Callable[..., ModuleModel] = from_module  # it checks what it is given
    return make(kind, **given, **options)


def _adaptive_of(module: nn.Module | Callable[..., nn.Module]) -> Sequence[str]:
    word = getattr(module, "__name__", type(module).__name__)
    found = getattr(module, ADAPTIVE, None)
    if isinstance(found, list | tuple) and found:
        return [str(name) for name in found]
    raise UserError(
        f"model: {word} must say which submodules differ between devices, as in "
        f'adaptive = ("head",), got {found!r}'
    )


def _checked(make: Callable[[], nn.Module]) -> nn.Module:
    """Makes a module.

    Raises:
        UserError: If it cannot be made, or is none.
    """
    try:
        made = make()
    except UserError:
        raise
    except Exception as error:  # the user's constructor may fail in any way
        word = getattr(getattr(make, "func", make), "__name__", "module")
        raise UserError(
            f"model: {word} must be made of its options, got {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, nn.Module):
        raise UserError(f"model must be an nn.Module, got {type(made).__name__}")
    return made
