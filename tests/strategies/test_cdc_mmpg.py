"""CDC-MMPG on clips: what arms tell, what devices get, and where the arms agree."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import cloud, fleet
from video_tiny import (
    VIDEO_SETTINGS,
    video_cloud,
    video_inline,
    video_model,
    video_strategy,
    video_stream,
    video_table,
)

from cdc_flower.core.errors import UserError
from cdc_flower.strategies.cdc_mmpg.condition import ARMS, spread_of
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.tasks.video.clip_report import read_report
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

every_arm = pytest.mark.parametrize("arm", ARMS)
FRAME = 32 * 32 * 3


@every_arm
@pytest.mark.parametrize("neutral", [{"epochs": 0}, {"rate": 0.0}])
def test_without_training_it_is_static(arm: str, neutral: dict) -> None:
    rows = video_table("cdc_mmpg", arm=arm, **neutral)
    np.testing.assert_allclose(
        rows.value_sum, video_table("static").value_sum, rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow
def test_where_all_frames_are_alike_the_arms_agree() -> None:
    knobs = {"num_devices": 16, "clips_per_segment": 8, "history_segments": 6, "noise": 0.02}
    stream = video_stream(identical_frames=True, **knobs)
    tables = {arm: video_table("cdc_mmpg", stream, arm=arm, epochs=6, rate=0.005) for arm in ARMS}
    np.testing.assert_allclose(
        tables["full_clip"].value_sum, tables["anchor_only"].value_sum, rtol=1e-4, atol=1e-5
    )
    losses = {
        arm: rows[rows.metric == "log_loss"].value_sum.to_numpy() for arm, rows in tables.items()
    }
    np.testing.assert_allclose(losses["anchor+adr"].sum(), losses["full_clip"].sum(), rtol=0.05)
    static = video_table("static", stream)
    assert (static.value_sum != tables["full_clip"].value_sum).any()


def up(**settings: Any) -> pd.DataFrame:
    rows = video_table("cdc_mmpg", epochs=0, **settings)
    return rows[rows.metric == "accuracy"]


@pytest.mark.parametrize("num_frames", [2, 3, 5])
def test_an_anchor_costs_exactly_one_frame_of_n(num_frames: int) -> None:
    stream = video_stream(num_frames=num_frames)
    tables = {
        arm: video_table("cdc_mmpg", stream, arm=arm, epochs=0).payload_bytes_up
        for arm in ("full_clip", "anchor+adr")
    }
    assert (tables["anchor+adr"] == FRAME).all()
    assert (tables["full_clip"] == num_frames * FRAME).all()


def test_the_control_sends_nothing_and_is_the_base_model_trained_further() -> None:
    stream = video_stream()
    control, static = (
        video_table("cdc_mmpg", stream, arm="one_for_all"),
        video_table("static", stream),
    )
    assert not control[["payload_bytes_up", "payload_bytes_down"]].any(axis=None)
    assert (control.value_sum != static.value_sum).any()
    one = video_strategy("cdc_mmpg", stream, arm="one_for_all")
    layers = one.generate(torch.randn(3, 1, one.model.width))
    deployed = one.deployment()
    for (
        name,
        made,
    ) in layers.items():  # a product of three rows may add up in another order than one of one row
        np.testing.assert_allclose(made, np.stack([deployed[name]] * 3), rtol=1e-5, atol=1e-6)


def told_of(built: Any) -> torch.Tensor:
    """Features of the frames that devices with clips 0 to 7 tell."""
    return built.frames(np.arange(8))[:, slice(None) if built.arm == "full_clip" else slice(1, 2)]


every_kernel = pytest.mark.parametrize("variant", ["oneM+bias", "twoM+bias"])


@every_kernel
@every_arm
def test_each_layer_is_made_from_its_own_report_alone(arm: str, variant: str) -> None:
    built = video_strategy("cdc_mmpg", video_stream(), arm=arm, variant=variant)
    features = told_of(built)
    crowd = features.clone()
    crowd[1:] = 100 * torch.randn(crowd[1:].shape, generator=torch.Generator().manual_seed(0))
    together, alone, crowded = (built.generate(told) for told in (features, features[:1], crowd))
    for (
        name,
        value,
    ) in together.items():  # up to the order of the sums in products of one and of eight rows
        np.testing.assert_allclose(value[0], alone[name][0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(value[0], crowded[name][0], rtol=1e-5, atol=1e-6)


@every_kernel
@every_arm
def test_normalization_does_not_magnify_the_rounding_of_products(arm: str, variant: str) -> None:
    """Layers are those of double precision up to one rounding; what magnifies rounding would take
    them further off.
    """
    built = video_strategy("cdc_mmpg", video_stream(), arm=arm, variant=variant)
    told = told_of(built)
    made = built.generate(told)
    if built.condition.reasoner is not None:
        built.condition.reasoner.double()
    exact = built.adaptor.double()(built.condition.of_report(told.double()))
    for name, value in made.items():
        np.testing.assert_allclose(value, exact[name], rtol=1e-5, atol=2e-6)


def test_a_feature_that_does_not_vary_is_not_divided_by_its_rounding() -> None:
    random = torch.Generator().manual_seed(0)
    varies = torch.randn(500, generator=random)
    rounding = 3.0 + 3e-7 * torch.randn(500, generator=random)
    spread = spread_of(
        torch.stack([torch.zeros(500), torch.full((500,), 0.1), rounding, varies, 1e-4 * varies], 1)
    )
    assert spread[:3].tolist() == [1, 1, 1]
    torch.testing.assert_close(spread[3:], torch.stack([varies.std(), 1e-4 * varies.std()]))


def test_features_and_pictures_cost_what_they_are() -> None:
    assert (up(form="feature").payload_bytes_up == 4 * 16).all()
    png, jpeg = up(form="png").payload_bytes_up, up(form="jpeg").payload_bytes_up
    assert (
        png.nunique() > 5 and jpeg.nunique() > 5
    )  # pictures differ in length, and each is counted as it is
    assert (png < FRAME + 100).all() and (jpeg < png.mean()).all()


def test_png_tells_the_same_as_raw_pixels_and_a_feature_nearly() -> None:
    raw = video_table("cdc_mmpg")
    for form in ("png", "feature"):
        np.testing.assert_allclose(
            video_table("cdc_mmpg", form=form).value_sum, raw.value_sum, rtol=1e-3, atol=1e-3
        )
    assert (video_table("cdc_mmpg", form="jpeg").value_sum != raw.value_sum).any()


def test_what_goes_up_is_the_middle_frame_of_the_clip_that_the_segment_opens_with() -> None:
    stream = video_stream()
    grid, built = video_inline(stream), video_strategy("cdc_mmpg", stream)
    from cdc_flower.simulations.deployment import deploy

    deploy(grid, built)
    asked = MessageBatch(
        records.TRAIN_REPORT, np.arange(2, 6), configs={records.CLOCK: {records.SEGMENT: 2}}
    )
    reply: Any = grid.send_and_receive(asked)
    first = stream.segment(np.arange(4), 2)
    opening = first.history[first.slot == 0, 0].astype(np.int64)
    told = reply.arrays[records.REPORT]
    assert set(told) == {"frames"}
    np.testing.assert_array_equal(told["frames"][:, 0], stream.table.clips.frames(opening)[:, 1])


def test_the_same_anchor_gives_the_same_layer_and_another_one_another() -> None:
    stream = video_stream()
    built = video_strategy("cdc_mmpg", stream)
    frames = stream.table.clips.frames(np.array([0, 0, 40]))[:, 1:2]
    generated = built.generate(read_report(built.model, built.parameters, {"frames": frames}))
    for value in generated.values():  # rows of one product may add up in different orders
        np.testing.assert_allclose(value[0], value[1], rtol=1e-5, atol=1e-6)
        assert np.abs(value[0] - value[2]).max() > 1e-4


def test_what_a_device_applies_is_what_the_cloud_generated_after_the_wire() -> None:
    stream = video_stream()
    built, grid = video_strategy("cdc_mmpg", stream), video_inline(stream)
    video_table("cdc_mmpg", grid=grid, built=built)
    states: Any = grid.states
    made = built._generated
    sent = MessageBatch(records.EVALUATE, made.node_ids, {records.PARAMETERS: made.layers})
    for row, message in enumerate(sent):
        for name, array in message.content[records.PARAMETERS].items():  # type: ignore[union-attr]
            np.testing.assert_array_equal(array.numpy(), states.pool[name][states.in_use[row]])


def test_bias_variants_send_the_bias_alone_and_keep_the_static_kernel() -> None:
    rows = video_table("cdc_mmpg", variant="onebias")
    assert (rows.payload_bytes_down == 4 * 16).all()
    whole = video_table("cdc_mmpg")
    assert (whole.payload_bytes_down == 4 * 25 * 16).all()


@pytest.fixture(scope="module")
def world() -> Any:
    """Places that matter much, and a model and arms trained enough to use them."""
    return video_stream(
        num_devices=24, clips_per_segment=8, history_segments=6, noise=0.02, mix=0.3
    )


@pytest.mark.slow
def test_shuffled_anchors_hurt(world: Any) -> None:
    model, given = video_model(world), video_cloud(world)
    built = build_strategy("cdc_mmpg", {**VIDEO_SETTINGS["cdc_mmpg"], "epochs": 15, "rate": 0.02})
    built.prepare(given)
    device = np.arange(world.num_devices)
    right, wrong = 0.0, 0.0
    for segment in range(4):
        data = world.segment(device, segment)
        opening, _ = world.opening(device, segment)
        place = world.table.context_id[device, segment]
        other = opening[
            np.lexsort((device, place))[::-1].argsort()
        ]  # another device's, of another place mostly
        ids = torch.from_numpy(data.history).long(), torch.from_numpy(data.candidates).long()
        true = torch.from_numpy(world.table.answer[data.history[:, 0]])
        for clips, name in ((opening, "right"), (other, "wrong")):
            layers = built.generate(built.frames(clips)[:, 1:2])
            own = {key: torch.from_numpy(value[data.row]) for key, value in layers.items()}
            with torch.no_grad():
                logits = model.score({**built.parameters, **own}, *ids)
            loss = float(torch.nn.functional.cross_entropy(logits, true))
            right, wrong = (right + loss, wrong) if name == "right" else (right, wrong + loss)
    assert built.validation_curve[0] > min(built.validation_curve)
    assert wrong > right + 0.02


def test_late_parameters_answer_late() -> None:
    slow = video_table("cdc_mmpg", links=fleet(down_bps=800.0))
    assert slow.latency_s.dropna().gt(10).all()
    assert (slow.staleness_s > 0).any()


def test_the_adaptor_is_in_evaluation_mode_once_it_is_prepared() -> None:
    built = video_strategy("cdc_mmpg", video_stream())
    assert not built.adaptor.training
    assert not any(value.requires_grad for value in built.adaptor.parameters())


def test_recommendation_is_refused() -> None:
    with pytest.raises(UserError, match="task must be video_qa or video_retrieval"):
        build_strategy("cdc_mmpg", {}).prepare(cloud())
