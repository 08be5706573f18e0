"""CDC-MMPG: the cloud generates a device's adaptive layer from one anchor frame of its video."""

from cdc_flower.strategies.cdc_mmpg.strategy import CdcMmpg

__all__ = ["CdcMmpg"]
