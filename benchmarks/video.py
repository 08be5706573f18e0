"""Measures clips drawn, encoded and answered by 1,000 devices with adaptive layers of their own.

    python -m benchmarks.video

One device-round is: an adaptive layer (1,552 float32) down, 4 clips of 3 frames of 32×32 pixels
drawn, encoded with their questions and answered, the sums of the metrics up. The rate is clips per
CPU second on ``InlineGrid``, against the same model on one plain batch: the same clips drawn,
encoded and multiplied with the same layers by hand, and the right ones counted. Each round plays a
segment that nobody has drawn before.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics

import numpy as np
import torch

from benchmarks.support.measure import close, own_cpu_s
from benchmarks.support.workload import one_batch
from cdc_flower.core.seeds import torch_generator
from cdc_flower.devices.app import DeviceApp
from cdc_flower.models.video.ranking import VideoQA
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.tasks.data.moving_digits import DigitsOptions
from cdc_flower.tasks.video.moving_digits import DrawnClips, digits_stream
from cdc_flower.tasks.video.task import VideoAnswers
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

NUM_DEVICES = 1000
#: Of a device and segment.
CLIPS = 4
ROUNDS = 4
#: Queries at a time by hand, so that they stay in the cache.
CHUNK = 512


@torch.inference_mode()
def by_hand(
    model: VideoQA,
    clips: DrawnClips,
    static: dict[str, torch.Tensor],
    own: dict[str, torch.Tensor],
    queries: np.ndarray,
    answer: np.ndarray,
) -> int:
    """Draws, encodes, answers and counts, without devices, messages or candidates.

    Args:
        model: Shared by all devices.
        clips: To draw from.
        static: Static layers.
        own: Adaptive layers, stacked over devices.
        queries: ``[n * CLIPS]``, in the order of devices.
        answer: The right answer of each query.

    Returns:
        Number of right answers.
    """
    model.clips = clips
    right = 0
    for start in range(0, len(queries), CHUNK):
        part = slice(start, start + CHUNK)
        u = model._read(static, torch.from_numpy(queries[part])).reshape(
            -1, CLIPS, model.projection
        )
        device = slice(start // CLIPS, start // CLIPS + len(u))
        logits = torch.baddbmm(
            own["head.0.bias"][device].unsqueeze(1), u, own["head.0.weight"][device]
        )
        right += int((logits.argmax(-1).reshape(-1).numpy() == answer[part]).sum())
    return right


def main() -> None:
    """Measures, prints, and closes."""
    torch.set_num_threads(1)
    options = DigitsOptions(clips_per_segment=CLIPS, history_segments=1)
    stream = digits_stream(NUM_DEVICES, ROUNDS, options, seed=0)
    again = digits_stream(NUM_DEVICES, ROUNDS, options, seed=0)
    model, plain = (
        VideoQA(each.table.clips, each.table.num_answers, width=48, depth=1)
        for each in (stream, again)
    )
    parameters = model.init(torch_generator(0, "model"))
    static = {name: value for name, value in parameters.items() if name not in model.adaptive}
    rng = np.random.default_rng(0)
    own = {
        name: rng.normal(size=(NUM_DEVICES, *shape)).astype(np.float32) * 0.1
        for name, shape in model.adaptive.items()
    }
    layers = {name: torch.from_numpy(value) for name, value in own.items()}
    grid = InlineGrid(
        DeviceApp(model, stream, VideoAnswers(stream.table.kinds)), np.arange(NUM_DEVICES)
    )
    node_ids = np.array(grid.get_node_ids())
    whole = {name: value.numpy() for name, value in parameters.items()}
    grid.send_and_receive(MessageBatch(records.DEPLOY, node_ids, shared={records.MODEL: whole}))
    seconds: dict[str, list[float]] = {"hand": [], "grid": []}
    for segment in range(ROUNDS):
        queries = again.segment(np.arange(NUM_DEVICES), segment).history[:, 0].astype(np.int64)
        start = own_cpu_s()
        clips: DrawnClips = again.table.clips  # type: ignore[assignment]
        right = by_hand(plain, clips, static, layers, queries, again.table.answer[queries])
        seconds["hand"].append(own_cpu_s() - start)
        clock = {records.CLOCK: {records.SEGMENT: segment}}
        start = own_cpu_s()
        replies = one_batch(
            grid.send_and_receive(
                MessageBatch(records.EVALUATE, node_ids, {records.PARAMETERS: own}, configs=clock)
            )
        )
        seconds["grid"].append(own_cpu_s() - start)
        scores = replies.metrics[records.SCORES]
        counted = scores["value-sum"][:, 0].sum()
        if abs(counted - right) > 2:  # rounding may turn two almost equal answers
            raise ValueError(f"as many answers must be right by hand, got {right} and {counted}")
    rate = {
        name: NUM_DEVICES * CLIPS / statistics.median(values[1:])
        for name, values in seconds.items()
    }
    print(
        f"by hand {rate['hand']:,.0f}, devices {rate['grid']:,.0f} clips drawn, encoded and "
        "answered per CPU second"
    )
    close("video", {"grid_to_hand": rate["grid"] / rate["hand"]}, {"grid_to_hand": 0.7})


if __name__ == "__main__":
    main()
