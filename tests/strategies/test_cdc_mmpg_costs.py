"""Numbers of CDC-MMPG by hand: samples that condition its training, and the work of the cloud."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from video_tiny import video_cloud, video_strategy, video_stream, video_table

from cdc_flower.strategies.cdc_mmpg.condition import ARMS
from cdc_flower.strategies.cdc_mmpg.reasoner import AnchorFrameReasoner
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.tasks.video.clip_report import read_report

# Sizes of the tiny model: features of 16, a head from 24 to 16 answers, 8 between the maps of
# adaptor and reasoner.
WIDTH, INPUTS, ANSWERS, HIDDEN = 16, 24, 16, 8
# A frame of 32 × 32 × 3 is cut into 16 patches of 192 numbers, which go through a stem of 192 → 16
# → 16.
FRAME = 2 * 16 * (192 * 16 + 16 * 16)
REASONER = 2 * (WIDTH * HIDDEN + HIDDEN * HIDDEN + HIDDEN * 2 * WIDTH)
ADAPTOR = {
    "oneM+bias": 2 * (WIDTH * INPUTS * ANSWERS + WIDTH * ANSWERS),
    "twoM+bias": 2 * (WIDTH * HIDDEN + HIDDEN * INPUTS * ANSWERS + HIDDEN * ANSWERS),
    "onebias": 2 * WIDTH * ANSWERS,
    "twobias": 2 * (WIDTH * HIDDEN + HIDDEN * ANSWERS),
}


def prepared(**settings: Any) -> Any:
    """A strategy that was not trained."""
    sizes = {"hidden": HIDDEN, "adr_hidden": HIDDEN, "epochs": 0, "adr_epochs": 0}
    built = build_strategy("cdc_mmpg", {**sizes, **settings})
    built.prepare(video_cloud(video_stream()))
    return built


@pytest.mark.parametrize(("num_samples", "count"), [(None, 3), (1, 1), (4, 4), (0, None)])
def test_the_adaptor_is_trained_on_the_mean_of_so_many_samples(
    num_samples: int | None, count: int | None
) -> None:
    """Of none given there are as many as a clip has frames, three; 0 stands for μ itself."""
    condition = prepared(num_samples=num_samples).condition
    random = torch.Generator().manual_seed(0)
    frames, noise = (
        torch.randn(5, 3, WIDTH, generator=random),
        torch.randn(5, WIDTH, generator=random),
    )
    z, _ = condition.in_training(frames, np.arange(5), noise)
    mu, variance = condition.reasoner(frames[:, 1])
    expected = mu if count is None else mu + variance.sqrt() * noise / count**0.5
    torch.testing.assert_close(z, expected)
    assert (count is None) == torch.allclose(z, mu, atol=1e-3)


def test_the_mean_of_samples_varies_as_the_mean_of_samples_does() -> None:
    reasoner = AnchorFrameReasoner(WIDTH, HIDDEN, torch.zeros(WIDTH), torch.ones(WIDTH))
    condition = prepared(num_samples=4).condition
    condition = type(condition)("anchor+adr", "middle", reasoner, 0, 4, torch.zeros(WIDTH))
    random = torch.Generator().manual_seed(0)
    frames = torch.zeros(1, 3, WIDTH).expand(4000, -1, -1)
    z, _ = condition.in_training(
        frames, np.zeros(4000, np.int64), torch.randn(4000, WIDTH, generator=random)
    )
    mu, variance = reasoner(frames[:1, 1])
    drawn = mu + variance.sqrt() * torch.randn(4000, 4, WIDTH, generator=random)
    torch.testing.assert_close(
        z.std(0), drawn.mean(1).std(0), rtol=0.06, atol=0
    )  # five standard errors


@pytest.mark.parametrize("variant", ADAPTOR)
@pytest.mark.parametrize("form", ["raw", "feature"])
@pytest.mark.parametrize("arm", ARMS)
def test_the_work_of_the_cloud_is_that_of_frames_reasoner_and_adaptor(
    arm: str, form: str, variant: str
) -> None:
    frames = 0 if form == "feature" else 3 * FRAME if arm == "full_clip" else FRAME
    reasoner = REASONER if arm == "anchor+adr" else 0
    assert (
        prepared(arm=arm, form=form, variant=variant).cloud_flops()
        == frames + reasoner + ADAPTOR[variant]
    )


@pytest.mark.parametrize(
    ("arm", "variant"), [("anchor+adr", "oneM+bias"), ("full_clip", "twoM+bias")]
)
def test_the_work_is_what_pytorch_counts_while_a_layer_is_made(arm: str, variant: str) -> None:
    built = prepared(arm=arm, variant=variant)
    frames = built.model.clips.frames(np.array([5]))
    told = {"frames": frames if arm == "full_clip" else frames[:, 1:2]}
    with FlopCounterMode(display=False) as counter:
        built.generate(read_report(built.model, built.parameters, told))
    assert counter.get_total_flops() == built.cloud_flops()


def test_the_table_says_the_work_of_every_device_in_every_segment() -> None:
    rows = video_table("cdc_mmpg", built=video_strategy("cdc_mmpg", video_stream(), epochs=0))
    assert set(rows.flops_cloud) == {float(FRAME + REASONER + ADAPTOR["oneM+bias"])}
    control = video_table(
        "cdc_mmpg", built=video_strategy("cdc_mmpg", video_stream(), epochs=0, arm="one_for_all")
    )
    assert not control.flops_cloud.any()  # its layer is made once, before the stream starts
