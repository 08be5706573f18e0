"""Device models: found by name in the registry ``models``, each in a module of this folder."""

from cdc_flower.models.base import DeviceModel
from cdc_flower.models.din import DIN
from cdc_flower.models.gru4rec import GRU4Rec
from cdc_flower.models.registry import models
from cdc_flower.models.sasrec import SASRec

__all__ = ["DIN", "GRU4Rec", "SASRec", "device_model", "models"]


def device_model(
    name: str, num_items: int, width: int = 32, history_length: int = 10
) -> DeviceModel:
    """Makes a model that reads items.

    Args:
        name: Of the model.
        num_items: Items are 1..num_items.
        width: Of embeddings and states.
        history_length: Items that the model sees before an event.

    Raises:
        UserError: If there is no such model.
    """
    return models.find(name, "model.name").value(num_items, width, history_length)
