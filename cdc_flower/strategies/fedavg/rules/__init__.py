"""Rules by which the updates of a round become one, found by scanning this folder."""

from cdc_flower.strategies.fedavg.rules.rule import Floats, Rule, rules

__all__ = ["Floats", "Rule", "rules"]
