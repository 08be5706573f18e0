"""Fine-tuning in the cloud, on uploaded labels."""

from cdc_flower.strategies.cloud_fine_tuning.strategy import CloudFineTuning

__all__ = ["CloudFineTuning"]
