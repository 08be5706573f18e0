"""Tries a module out before anything is trained: whether it does its part, and how it runs best.

Everything is compared with single devices, so a way of running devices together is taken only if
it gives the same logits and the same gradients.
"""

import logging

import torch
from torch import Tensor

from cdc_flower.core.errors import UserError
from cdc_flower.models.layers import Parameters
from cdc_flower.models.module.model import CALLS, LOOP, WHOLE, ModuleModel

log = logging.getLogger("cdc_flower")

#: Sizes of a trial: primes, so that one axis is not taken for another.
NUM_EVENTS, NUM_CANDIDATES, NUM_DEVICES = 7, 5, 3
#: Largest difference between ways, beside a thousandth of the numbers themselves.
TOLERANCE = 1e-4


def try_out(model: ModuleModel) -> None:
    """Checks a module, and sets the ways in which it runs many devices.

    Raises:
        UserError: If it cannot be called, gives no logits, mixes events, or does not depend on its
            adaptive parameters.
    """
    with torch.inference_mode(False):
        with torch.no_grad():
            _check_logits(model)
        for layers, names in (("head", model.parts.adaptive), ("all", tuple(model.shapes))):
            ways = [CALLS] if layers == "head" and model.parts.units else []
            model.ways[layers] = _way(model, names, [*ways, WHOLE], layers)


def _check_logits(model: ModuleModel) -> None:
    """Checks shapes, that events do not touch each other, and that adaptive parameters matter."""
    history, candidates = model.some_events(NUM_EVENTS, NUM_CANDIDATES)
    values, word = model.values(), model.word
    said = f"history {list(history.shape)} and candidates {list(candidates.shape)}"
    try:
        logits = model.run(values, history, candidates)
    except Exception as error:  # the user's code may fail in any way
        raise UserError(
            f"model: {word}.forward must take {said} with items 0 to {model.num_items}, "
            f"got {_first_line(error)}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != candidates.shape:
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"model: {word}.forward must give logits {list(candidates.shape)} of {said}, got {got}"
        )
    alone = [model.run(values, history[k : k + 1], candidates[k : k + 1]) for k in range(2)]
    if not _is_close(torch.cat(alone), logits[:2]):
        raise UserError(
            f"model: {word}.forward must give an event the same logits beside other events and "
            f"alone, got {float((torch.cat(alone) - logits[:2]).abs().max()):.2g} between them"
        )
    other = {**values, **{name: _moved(values[name], 1) for name in model.parts.adaptive}}
    if torch.equal(model.run(other, history, candidates), logits):
        raise UserError(
            f"model.adaptive must name parameters on which the logits of {word} depend, "
            f"got {', '.join(model.parts.adaptive)}"
        )


def _way(model: ModuleModel, names: tuple[str, ...], ways: list[str], layers: str) -> str:
    """Finds the first way in which devices together are as devices alone.

    Args:
        model: Whose way it is.
        names: Of the parameters in which devices differ.
        ways: To be tried; the last resort is not among them.
        layers: ``head`` or ``all``.

    Raises:
        UserError: If it cannot be differentiated.
    """
    try:
        expected = _logits_and_gradients(model, names, layers, LOOP)
    except Exception as error:  # a module may work and yet have no gradient
        raise UserError(
            f"model: {model.word} must have gradients of {', '.join(names)}, "
            f"got {_first_line(error)}"
        ) from error
    reason = "other numbers"
    for way in ways:
        try:
            found = _logits_and_gradients(model, names, layers, way)
        except Exception as error:  # PyTorch may lack a rule, or the module looks at numbers
            reason = _first_line(error)
            continue
        if all(_is_close(*pair) for pair in zip(found, expected, strict=True)):
            return way
    level = logging.WARNING if layers == "head" else logging.INFO
    log.log(
        level,
        "model: %s runs one device after the other where %s differ, for together they give %s",
        *(model.word, "adaptive layers" if layers == "head" else "all layers", reason),
    )
    return LOOP


def _logits_and_gradients(
    model: ModuleModel, names: tuple[str, ...], layers: str, way: str
) -> list[Tensor]:
    """Scores and differentiates devices that differ in some parameters, one without an event.

    Args:
        model: Whose devices they are.
        names: Of these parameters.
        layers: ``head`` or ``all``.
        way: Of running devices.
    """
    history, candidates = (
        ids[: NUM_EVENTS - NUM_EVENTS % NUM_DEVICES].view(NUM_DEVICES, -1, ids.shape[-1]).clone()
        for ids in model.some_events(NUM_EVENTS, NUM_CANDIDATES)
    )
    history[1, 1:], candidates[1, 1:] = 0, 0  # a place without an event
    values = model.values()
    leaves: Parameters = {
        name: torch.stack([_moved(values[name], k) for k in range(NUM_DEVICES)]).requires_grad_()
        for name in names
    }
    before, model.ways[layers] = model.ways[layers], way
    try:
        logits = model.score({**values, **leaves}, history, candidates)
        loss = model.loss(logits) * (candidates[..., 0] != 0)
        gradients = torch.autograd.grad(loss.sum(), list(leaves.values()), allow_unused=True)
    finally:
        model.ways[layers] = before
    return [
        logits[candidates != 0],
        *(torch.zeros(()) if value is None else value for value in gradients),
    ]


def _moved(value: Tensor, seed: int) -> Tensor:
    """Moves the numbers of a parameter a little; not at all with 0."""
    noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))
    return value + (0.1 * noise if seed else 0.0)


def _is_close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, 1e-3, TOLERANCE)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
