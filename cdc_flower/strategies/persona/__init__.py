"""Persona: prototype-based parameter editing in the cloud."""

from cdc_flower.strategies.persona.strategy import Persona

__all__ = ["Persona"]
