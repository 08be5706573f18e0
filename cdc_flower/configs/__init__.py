"""The YAML files of ``cdc-flower``. A package, so that Hydra can read them as ``pkg://cdc_flower.configs``."""
