"""Attacks: hostile devices among those of a run, found by scanning this folder.

A hostile device gets what others get and answers something else. Its message keeps records, types
and bytes, so links see nothing of it.
"""

from cdc_flower.simulations.attacks.attack import Attack, Exchange, HostileAttack, Scene, attacks

__all__ = ["Attack", "Exchange", "HostileAttack", "Scene", "attacks"]
