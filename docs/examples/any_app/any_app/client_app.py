"""A client that adds one to every weight."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train: here, add one."""
    arrays = message.content["arrays"].to_numpy_ndarrays()
    content = {
        "arrays": ArrayRecord([array + np.float32(1) for array in arrays]),
        "metrics": MetricRecord({"num-examples": 1}),
    }
    return Message(RecordDict(content), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate: here, tell the first weight."""
    first = float(message.content["arrays"].to_numpy_ndarrays()[0].flat[0])
    return Message(
        RecordDict({"metrics": MetricRecord({"num-examples": 1, "first": first})}), reply_to=message
    )
