"""Values of any structure as named arrays: numbers and texts as JSON, arrays as they are.

For states that have no fixed shape, such as a dictionary of the devices that have reported so far.
Nothing is pickled, so a file from elsewhere cannot run code.
"""

import base64
import random
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.saveable import Arrays, Saved, json_array, json_of

#: Name of the structure among the arrays, which are numbered.
TREE = "tree"

#: Flower's records, by the name of their kind.
RECORDS: dict[str, type[MetricRecord] | type[ConfigRecord]] = {
    "metrics": MetricRecord,
    "config": ConfigRecord,
}

#: Anything that draws.
Draws = np.random.Generator | torch.Generator | random.Random


def packed(value: object) -> Arrays:
    """Takes a value apart.

    It may be made of numbers, texts, bytes, None, arrays, tensors, Flower's records of arrays,
    metrics and configuration, and lists, tuples and dicts of all these.

    Raises:
        TypeError: If it holds anything else.
    """
    leaves: list[NDArray] = []
    tree = _taken_apart(value, leaves)
    return {TREE: json_array(tree), **{str(k): leaf for k, leaf in enumerate(leaves)}}


def _taken_apart(value: object, leaves: list[NDArray]) -> object:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        kind = "tensor" if isinstance(value, torch.Tensor) else "array"
        kind = "number" if isinstance(value, np.generic) else kind
        plain = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        leaves.append(np.array(plain, order="C"))
        return {kind: len(leaves) - 1}
    if isinstance(value, ArrayRecord):
        named = {name: array.numpy() for name, array in value.items()}
        return {"arrays": _taken_apart(named, leaves)}
    for kind, record in RECORDS.items():
        if isinstance(value, record):
            return {kind: _taken_apart(dict(value), leaves)}
    if isinstance(value, dict):
        pairs = [[_taken_apart(part, leaves) for part in pair] for pair in value.items()]
        return {"dict": pairs}
    if isinstance(value, list | tuple):
        parts = [_taken_apart(part, leaves) for part in value]
        return {"list" if isinstance(value, list) else "tuple": parts}
    raise TypeError(
        "a saved value must be made of numbers, texts, arrays, lists and dicts, "
        f"got {type(value).__name__}"
    )


def unpacked(arrays: Saved) -> Any:
    """Puts together what :func:`packed` took apart.

    Raises:
        UserError: If the structure, or an array that it names, is missing.
    """
    return _put_together(json_of(arrays, TREE), arrays)


def _put_together(tree: object, arrays: Saved) -> object:
    if not isinstance(tree, dict):
        return tree
    ((kind, inside),) = tree.items()
    if kind == "bytes":
        return base64.b64decode(inside)
    if kind == "dict":
        return {_put_together(k, arrays): _put_together(v, arrays) for k, v in inside}
    if kind in ("list", "tuple"):
        parts = [_put_together(part, arrays) for part in inside]
        return parts if kind == "list" else tuple(parts)
    if kind == "arrays":
        named = cast(dict[str, NDArray], _put_together(inside, arrays))
        return ArrayRecord({name: Array(value) for name, value in named.items()})
    if kind in RECORDS:
        return RECORDS[kind](cast(dict, _put_together(inside, arrays)))
    if str(inside) not in arrays:
        place = f"{getattr(arrays, 'place', '')}{inside}"
        raise UserError(f"a saved state must hold {place}, got one without it")
    leaf = np.array(arrays[str(inside)], order="C")
    as_saved: dict[str, Callable[[NDArray], object]] = {
        "array": lambda value: value,
        "tensor": torch.from_numpy,
        "number": lambda value: value[()],
    }
    return as_saved[kind](leaf)


def generator_arrays(draws: Draws) -> Arrays:
    """Takes the state of a random generator."""
    if isinstance(draws, np.random.Generator):
        return packed(("numpy", draws.bit_generator.state))
    if isinstance(draws, torch.Generator):
        return packed(("torch", draws.get_state()))
    return packed(("python", draws.getstate()))


def restore_generator(draws: Draws, arrays: Saved) -> None:
    """Lets a random generator go on where the saved one stopped.

    Raises:
        UserError: If the saved one was of another kind.
    """
    kind, state = unpacked(arrays)
    if isinstance(draws, np.random.Generator):
        own = "numpy"
    else:
        own = "torch" if isinstance(draws, torch.Generator) else "python"
    if kind != own:
        raise UserError(f"a saved generator must be of {own}, got one of {kind}")
    if isinstance(draws, np.random.Generator):
        here = draws.bit_generator.state["bit_generator"]
        if state["bit_generator"] != here:
            raise UserError(f"a saved generator must be {here}, got {state['bit_generator']}")
        draws.bit_generator.state = state
    elif isinstance(draws, torch.Generator):
        draws.set_state(state)
    else:
        draws.setstate(state)
