"""Request policies: when a device reports, found by scanning this folder.

A policy decides from what the device itself knows; 0 % is never and 100 % is always, exactly.
"""

from cdc_flower.simulations.requests.policies.policy import Devices, Policy, policies

__all__ = ["Devices", "Policy", "policies"]
