"""Device models by name."""

from cdc_flower.core.errors import unknown_name
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.din import DIN
from cdc_flower.models.gru4rec import GRU4Rec
from cdc_flower.models.sasrec import SASRec

__all__ = ["DIN", "GRU4Rec", "SASRec"]

MODELS: dict[str, type[DeviceModel]] = {"gru4rec": GRU4Rec, "sasrec": SASRec, "din": DIN}


def device_model(
    name: str, num_items: int, width: int = 32, history_length: int = 10
) -> DeviceModel:
    """The model of that name.

    Raises:
        UserError: If there is no such model.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS, "model.name")
    return MODELS[name](num_items, width, history_length)
