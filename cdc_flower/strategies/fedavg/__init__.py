"""Federated averaging."""

from cdc_flower.strategies.fedavg.strategy import FedAvg

__all__ = ["FedAvg"]
