"""Options of how the updates of a round become one, each of which concerns some rules alone."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from cdc_flower.core.option_words import shown
from cdc_flower.core.options import option, options_of
from cdc_flower.strategies.fedavg.rules.centered_clipping import CenteredClipping
from cdc_flower.strategies.fedavg.rules.geometric_median import GeometricMedian
from cdc_flower.strategies.fedavg.rules.krum import Krum
from cdc_flower.strategies.fedavg.rules.multi_krum import MultiKrum
from cdc_flower.strategies.fedavg.rules.rule import Rule, rules
from cdc_flower.strategies.fedavg.rules.trimmed_mean import TrimmedMean
from cdc_flower.strategies.labelled_steps import LabelledSteps


def _of(rule: type[Rule], name: str) -> Any:
    """Makes the option that a rule has, with its default and range."""
    own = next(each for each in dataclasses.fields(rule) if each.name == name)
    return field(default=own.default, metadata=own.metadata)


@dataclass(eq=False, repr=False)
class RuleOptions(LabelledSteps):
    """The rule, what goes with each, and the norm at which updates are held before it.

    Attributes:
        combines: The rule itself.

    Raises:
        ValueError: If a value is out of its range, or is of another rule.
    """

    rule: str = option(
        "mean",
        neutral="mean",
        choices=rules,
        changes_training=False,
        doc="how the updates of a round become one; mean is FedAvg; the others hold against some "
        "hostile devices",
    )
    clip_norm: float | Literal["median"] | None = option(
        None,
        above=0,
        changes_training=False,
        doc="norm at which each update is held before the rule; median: that of the round; null "
        "clips nothing",
    )
    trim_share: float = _of(TrimmedMean, "trim_share")
    num_hostile: int | None = _of(Krum, "num_hostile")
    num_selected: int | None = _of(MultiKrum, "num_selected")
    weiszfeld_steps: int = _of(GeometricMedian, "weiszfeld_steps")
    clip_radius: float = _of(CenteredClipping, "clip_radius")
    clip_steps: int = _of(CenteredClipping, "clip_steps")

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = rules.find(self.rule, "rule").value
        known = {name: each for name, each in options_of(kind).items() if hasattr(self, name)}
        self._check_owners(set(known))
        self.combines = kind(**{name: getattr(self, name) for name in known})

    def _check_owners(self, own: set[str]) -> None:
        """Refuses a value of an option that another rule has.

        Raises:
            ValueError: If there is one that is not the default.
        """
        for name, each in options_of(RuleOptions).items():
            owners = [entry.name for entry in rules.entries() if name in options_of(entry.value)]
            value = getattr(self, name)
            does_nothing = value == each.default or value == each.rule.neutral
            if not owners or name in own or does_nothing:
                continue
            raise ValueError(
                f"{name} must go with rule={' or '.join(owners)}, got {name}="
                f"{shown(value)} with rule={self.rule}"
            )

    @property
    def is_plain_mean(self) -> bool:
        """Tells whether trained parameters are averaged as they are."""
        return self.rule == "mean" and self.clip_norm is None
