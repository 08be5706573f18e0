"""Strategies by name. A new one is a file (or folder) here, a card, a YAML, a test, and a line below."""

from collections.abc import Mapping
from typing import Any

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.strategies.apg.strategy import Apg
from cdc_flower.strategies.base import CloudStrategy, OnDevices
from cdc_flower.strategies.cdc_mmpg import CdcMmpg
from cdc_flower.strategies.cloud_fine_tuning.strategy import CloudFineTuning
from cdc_flower.strategies.duet import Duet
from cdc_flower.strategies.fedavg.strategy import FedAvg
from cdc_flower.strategies.fine_tuning.strategy import FineTuning
from cdc_flower.strategies.group_fine_tuning.strategy import GroupFineTuning
from cdc_flower.strategies.persona import Persona
from cdc_flower.strategies.static.strategy import Static

__all__ = [
    "Apg",
    "CdcMmpg",
    "CloudFineTuning",
    "CloudStrategy",
    "Duet",
    "FedAvg",
    "FineTuning",
    "GroupFineTuning",
    "OnDevices",
    "Persona",
    "Static",
]

STRATEGIES: dict[str, type[OnDevices]] = {
    "static": Static,
    "fine_tuning": FineTuning,
    "fedavg": FedAvg,
    "duet": Duet,
    "apg": Apg,
    "group_fine_tuning": GroupFineTuning,
    "persona": Persona,
    "cloud_fine_tuning": CloudFineTuning,
    "cdc_mmpg": CdcMmpg,
}


def build_strategy(name: str, settings: Mapping[str, Any], place: str | None = None) -> Any:
    """The strategy of that name.

    Args:
        name: One of ``STRATEGIES``.
        settings: Its arguments, by name.
        place: The config key that holds them, for errors; ``strategy.<name>`` if None.

    Raises:
        UserError: If there is no such strategy, or a setting is unknown or out of its range.
    """
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES, "strategies")
    try:
        return STRATEGIES[name](**settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"{place or f'strategy.{name}'}: {error}") from error
