"""From a configuration to an attack, one for each run of a strategy."""

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.held import Held
from cdc_flower.core.stream import Stream, TruthReader
from cdc_flower.simulations.attacks.attack import Attack, Bools, Ints, Scene, attacks
from cdc_flower.simulations.attacks.link import WithAttack
from cdc_flower.simulations.attacks.report_poisoning import LEAST_POPULAR, ReportPoisoning
from cdc_flower.tasks.video.clip_report import ClipReport
from cdc_flower.wire import records

#: The choice of runs from before there were attacks.
NONE: Mapping[str, object] = {"name": "none"}


class Attacker(TruthReader):
    """Knows the context of every device: the worst that can be."""


def attack_of(config: Mapping[str, object]) -> Attack:
    """Makes the attack of a configured ``attack``.

    Raises:
        UserError: If the attack is unknown, a key is none, or a value is out of its range.
    """
    if isinstance(config, Held):
        return cast(Attack, config.made("attack"))
    kind = attacks.of_node(config, "attack")
    make: Callable[..., Attack] = kind.value
    return make(**kind.arguments(kind.checked(config, "attack")))


def check_attack(
    config: Mapping[str, object], strategies: Mapping[str, object], tells: frozenset[str]
) -> None:
    """Refuses an attack that could not change what devices tell, before anything is trained.

    Args:
        config: The configured ``attack``.
        strategies: By name.
        tells: What devices of the task tell.

    Raises:
        UserError: If it is one, or as :func:`attack_of`.
    """
    attack = attack_of(config)
    if not isinstance(attack, ReportPoisoning):
        return
    if attack.kind == LEAST_POPULAR and records.HISTORY not in tells:
        raise UserError(
            f"attack.kind must be random or other_context where devices tell no items, "
            f"got {LEAST_POPULAR}"
        )
    for name, strategy in strategies.items():
        report = getattr(strategy, "report", None)
        if isinstance(report, ClipReport) and report.form in ("png", "jpeg"):
            raise UserError(
                f"strategy.{name}.form must be raw or feature with attack=report_poisoning, as "
                f"noise is no picture, got {report.form}"
            )


def hostile_devices(config: Mapping[str, object], num_devices: int) -> Bools:
    """Tells which devices ``[n]`` of a configured run are hostile.

    Args:
        config: Of the run, resolved and checked.
        num_devices: n.
    """
    node = cast(Mapping[str, object], config.get("attack", NONE))
    return attack_of(node).hostile(num_devices, cast(int, config["seed"]))


def with_attack(config: Mapping[str, object], stream: Stream) -> WithAttack:
    """Makes the chain link of a configured run's attack.

    Args:
        config: Of the run, resolved and checked.
        stream: Of the devices.
    """
    node = cast(Mapping[str, object], config.get("attack", NONE))
    return WithAttack(attack_of(node), cast(int, config["seed"]), scene_of(stream))


def scene_of(stream: Stream) -> Scene:
    """Shows attackers the stream, as far as they ask."""

    def popularity() -> NDArray[np.int64]:
        counts: NDArray[np.int64] = stream.historical().popularity()  # type: ignore[attr-defined]
        return counts

    def contexts(device_ids: Ints, segment: int) -> Ints:
        return stream.segment(device_ids, segment).truth.read(Attacker())[1]

    return Scene(stream.num_items, popularity, contexts)


def marked(frame: pd.DataFrame, hostile: Bools) -> pd.DataFrame:
    """Marks the rows of hostile devices.

    Args:
        frame: Rows of the table.
        hostile: ``[n]``, by device id.
    """
    if not hostile.any():
        return frame
    return frame.assign(is_hostile=hostile[frame["device_id"].to_numpy(np.int64)])


def attack_words(config: Mapping[str, object], num_devices: int) -> list[str]:
    """Says in a sentence who is hostile; nothing where nobody is.

    Args:
        config: Of the run, resolved and checked.
        num_devices: Of the run.
    """
    count = int(hostile_devices(config, num_devices).sum())
    if not count:
        return []
    node = cast(Mapping[str, object], config["attack"])
    return [
        f"{count} of {num_devices} devices are hostile ({node.get('name')}); values, differences "
        f"and costs are of the other {num_devices - count} alone"
    ]
