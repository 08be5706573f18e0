"""Fine-tuning on the device."""

from cdc_flower.strategies.fine_tuning.strategy import FineTuning

__all__ = ["FineTuning"]
