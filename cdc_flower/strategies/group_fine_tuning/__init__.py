"""Fine-tuning of one model for each group of devices."""

from cdc_flower.strategies.group_fine_tuning.strategy import GroupFineTuning

__all__ = ["GroupFineTuning"]
