"""Persona: prototypes, edits, assignment, refinement, and what goes down."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import Around, cloud, inline, model, same, strategy, stream, table

from cdc_flower.core.errors import UserError
from cdc_flower.strategies.group_fine_tuning import GroupFineTuning
from cdc_flower.strategies.persona import Persona
from cdc_flower.strategies.persona.decoder import EDIT, HELD, PROTOTYPE, VERSION
from cdc_flower.strategies.persona.prototypes import norms
from cdc_flower.strategies.persona.stages import Groups, Stages
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.training.checkpoints import Checkpoints
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

EVERYONE = np.arange(4)


def report(persona: Any, histories: np.ndarray, held: Any = None) -> MessageBatch:
    """What devices with these last items tell."""
    devices = np.arange(len(histories))
    arrays = {records.HISTORY: histories}
    if persona.downlink != "full":
        arrays[HELD] = np.asarray(
            held if held is not None else [[-1, 0]] * len(histories), np.int32
        )
    return MessageBatch(
        records.TRAIN_REPORT, devices + 2, arrays={records.REPORT: arrays}, is_reply=True
    )


def sequences(segment: int = 0) -> np.ndarray:
    return stream().recent(EVERYONE, segment)


def full(persona: Any, histories: np.ndarray) -> dict[str, np.ndarray]:
    """The layers that go down whole."""
    (down,) = persona.answer(report(persona, histories))
    return dict(down.arrays[records.PARAMETERS])


# Neutral values.


def test_without_training_every_device_gets_the_base_models_head_to_the_bit() -> None:
    base = cloud().parameters
    for settings in (
        {},
        {"num_prototypes": 1},
        {"assignment": "static"},
        {"low_rank": 2, "downlink": "edit"},
    ):
        persona = strategy("persona", epochs=0, **{"bytes_rate": 0.0, **settings})
        for name, value in persona.deployment().items():
            np.testing.assert_array_equal(value, base[name].numpy())
        if persona.downlink == "full":
            for name, value in full(persona, sequences()).items():
                np.testing.assert_array_equal(value, np.repeat(base[name].numpy()[None], 4, 0))
        rows = table("persona", built=persona)
        np.testing.assert_allclose(rows.value_sum, table("static").value_sum, rtol=1e-5, atol=1e-6)


def test_a_clip_of_zero_gives_each_device_its_prototype() -> None:
    persona = strategy("persona", clip=0.0, bytes_rate=0.0)
    layers = full(persona, sequences())
    for name, value in layers.items():
        for device in EVERYONE:
            assert any(
                np.array_equal(value[device], layer.numpy()) for layer in persona.bank.layers[name]
            )


def test_a_bytes_rate_of_zero_leaves_the_bank_as_it_was_trained() -> None:
    persona = strategy("persona", bytes_rate=0.0)
    table("persona", built=persona)
    assert persona.bank is persona.trained_bank


def test_one_prototype_is_the_global_editor_on_the_base_models_head() -> None:
    persona = strategy("persona", num_prototypes=1, bytes_rate=0.0)
    own, head = persona.global_editor, cloud().parameters
    history = torch.from_numpy(sequences()).long()
    edits = persona.editor.edits(
        own,
        persona.editor.embeddings(own, persona.editor.feature(own, persona.parameters, history)),
    )
    for name, value in full(persona, sequences()).items():
        np.testing.assert_allclose(value, (head[name] + edits[name]).numpy(), rtol=1e-5, atol=1e-7)
    assert any(value.abs().max() > 1e-3 for value in edits.values())


def test_with_one_prototype_assignment_and_clustering_do_not_matter() -> None:
    tables = [
        table("persona", built=strategy("persona", num_prototypes=1, **settings))
        for settings in ({}, {"assignment": "static"}, {"cluster_on": "embeddings"})
    ]
    for other in tables[1:]:  # another assignment may add up in another order
        same(tables[0], other, rtol=1e-5)


def stages_of(persona: Any) -> Stages:
    how = persona.epochs, persona.rate, persona.joint
    return Stages(persona.cloud, persona.editor, *how, persona.past(persona.cloud))


def test_groups_with_the_same_data_and_start_end_alike() -> None:
    persona = strategy("persona", num_prototypes=1)
    stages, given_cloud = stages_of(persona), persona.cloud
    everything = Groups(
        {"only": 1},
        torch.zeros(1, 1),
        np.zeros(given_cloud.train.num_examples, np.int64),
        np.zeros(given_cloud.validation.num_examples, np.int64),
    )
    one, two = (
        stages.prototypes(
            persona.parameters, replace(everything, settings={"run": run}), model().adaptive
        )[0]
        for run in (1, 2)
    )
    for name, value in one.items():
        assert torch.equal(value, two[name])


# What the stages train, and what they leave alone.


def test_the_decoders_move_in_training_and_the_static_layers_do_not_unless_joint() -> None:
    persona, base = strategy("persona"), cloud().parameters
    assert all(persona.global_editor[f"decoder.{k}.weight"].abs().max() > 0 for k in (0, 1))
    for name, value in base.items():
        np.testing.assert_array_equal(persona.deployment()[name], value.numpy())
    assert not np.array_equal(
        strategy("persona", joint=True).deployment()["embedding"], base["embedding"].numpy()
    )


def test_group_stages_change_neither_the_global_editor_nor_the_feature_nor_the_base_model() -> None:
    one, several = strategy("persona", num_prototypes=1), strategy("persona", num_prototypes=2)
    for name, value in one.global_editor.items():
        assert torch.equal(value, several.global_editor[name])
        if name.startswith("feature."):
            assert all(torch.equal(value, editor[name]) for editor in several.editors)
    changed = [
        any(not torch.equal(editor[n], v) for n, v in one.global_editor.items())
        for editor in several.editors
    ]
    assert any(changed)
    for name in model().adaptive:
        assert torch.equal(one.parameters[name], cloud().parameters[name])
        assert any(
            not torch.equal(layer, one.parameters[name])
            for layer in several.trained_bank.trained[name]
        )


def test_the_released_code_trains_no_decoder_and_starts_with_saturated_edits() -> None:
    start, trained = (
        strategy("persona", released_code=True, joint=True, epochs=epochs) for epochs in (0, 2)
    )
    for name, value in start.global_editor.items():
        if name.startswith("decoder."):
            assert torch.equal(value, trained.global_editor[name])
    start.answer(report(start, sequences()))
    assert start.seen["saturated"] > 0.2
    ours = strategy("persona")
    ours.answer(report(ours, sequences()))
    assert ours.seen["saturated"] < 0.01


def test_a_run_with_a_cache_trains_each_stage_once_and_variants_share_what_they_have_in_common(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = replace(cloud(), identity="base", checkpoints=Checkpoints(tmp_path))
    settings = {"epochs": 1, "rate": 0.01, "width": 8}
    Persona(num_prototypes=1, **settings).prepare(shared)
    assert len(list(tmp_path.iterdir())) == 1
    first = Persona(num_prototypes=2, **settings)
    first.prepare(shared)
    assert len(list(tmp_path.iterdir())) == 5  # editor; two prototypes; two editors
    monkeypatch.setattr(
        "cdc_flower.training.cloud.fit", lambda *_, **__: pytest.fail("trained again")
    )
    again = replace(shared, checkpoints=Checkpoints(tmp_path))
    GroupFineTuning(num_groups=2, **settings).prepare(again)
    for variant in (
        Persona(
            num_prototypes=2, assignment="static", refinement="bytes", bytes_rate=0.3, **settings
        ),
        Persona(num_prototypes=2, **settings),
    ):
        variant.prepare(again)
        for name, value in full(variant, sequences()).items():
            if variant.assignment == first.assignment:
                np.testing.assert_array_equal(value, full(first, sequences())[name])


# Assignment.


def test_dynamic_assignment_is_the_prototype_of_all_that_needs_the_smallest_edit() -> None:
    persona = strategy("persona", num_prototypes=3, bytes_rate=0.0, assignment="dynamic")
    histories = np.concatenate([sequences(segment) for segment in range(4)])
    feature = persona.editor.feature(
        persona.global_editor, persona.parameters, torch.from_numpy(histories).long()
    )
    groups = [persona._group(j) for j in range(3)]
    sizes = np.array([norms(group.edits(group.embeddings(feature))[1]).numpy() for group in groups])
    group_of, _ = persona._assigned(feature)
    np.testing.assert_array_equal(group_of, sizes.argmin(0))
    np.testing.assert_allclose(persona._edited(feature, group_of).norms, sizes.min(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("num_prototypes", "assignment", "compared"),
    [(1, "dynamic", 0), (3, "static", 1), (3, "dynamic", 3)],
)
def test_the_cloud_counts_the_edits_that_it_compares(
    num_prototypes: int, assignment: str, compared: int
) -> None:
    persona = strategy(
        "persona",
        num_prototypes=num_prototypes,
        bytes_rate=0.0,
        assignment=assignment,
        epochs=0,
    )
    (down,) = persona.answer(report(persona, sequences()))
    length = persona.cloud.model.history_length
    expected = persona.editor.flops(length) + compared * persona.editor.comparison_flops()
    assert down.configs[records.WORK][records.FLOPS] == expected


def test_static_assignment_is_the_nearest_center_of_the_samples_edits() -> None:
    persona = strategy("persona", num_prototypes=3, bytes_rate=0.0, assignment="static")
    feature = persona.editor.feature(
        persona.global_editor, persona.parameters, torch.from_numpy(sequences()).long()
    )
    group_of, where = persona._assigned(feature)
    distance = ((where[:, None] - persona.bank.centers) ** 2).sum(-1)
    np.testing.assert_array_equal(group_of, distance.argmin(1))


def test_a_device_changes_its_prototype_with_its_data_and_not_without() -> None:
    persona = strategy("persona", num_prototypes=2, bytes_rate=0.0, assignment="static")
    histories = cloud().train.history()
    feature = persona._feature(report(persona, histories))
    groups = list(persona._assigned(feature)[0])
    assert set(groups) == {0, 1}
    here, there = histories[groups.index(0)][None], histories[groups.index(1)][None]
    assigned = []
    for history in (here, here, there, here):
        persona.answer(report(persona, history))
        assigned.append(list(persona.seen["prototype-sizes"]).index(1))
    assert assigned == [0, 0, 1, 0]


def test_a_device_alone_gets_what_it_gets_among_others() -> None:
    persona = strategy("persona", num_prototypes=3, bytes_rate=0.0)
    together = full(persona, sequences())
    for device in EVERYONE:
        for name, value in full(persona, sequences()[[device]]).items():
            np.testing.assert_allclose(value[0], together[name][device], rtol=1e-5, atol=1e-6)


def test_many_devices_are_answered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    persona = strategy("persona", num_prototypes=3, bytes_rate=0.0)
    whole = full(persona, sequences())
    monkeypatch.setattr("cdc_flower.strategies.persona.strategy.DEVICES_PER_CHUNK", 3)
    for name, value in full(persona, sequences()).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-5, atol=1e-6)


# What goes down.


@pytest.mark.parametrize("num_prototypes", [1, 3])
@pytest.mark.parametrize(
    "settings", [{"downlink": "edit"}, {"downlink": "index"}, {"report": "feature"}]
)
def test_however_layers_travel_devices_predict_the_same(
    num_prototypes: int, settings: dict[str, Any]
) -> None:
    whole = table("persona", built=strategy("persona", num_prototypes=num_prototypes))
    other = table("persona", built=strategy("persona", num_prototypes=num_prototypes, **settings))
    np.testing.assert_allclose(whole.value_sum, other.value_sum, rtol=1e-5, atol=1e-6)


def downs(**settings: Any) -> list[set[str]]:
    """Which records went down, message by message."""
    around = Around(inline())
    table("persona", around, built=strategy("persona", **settings))
    names = {records.PARAMETERS, PROTOTYPE, EDIT, VERSION}
    return [
        set(batch.record_names()) & names
        for batch in around.sent
        if batch.message_type == records.EVALUATE
        for _ in range(len(batch))
    ]


def test_a_prototype_travels_once_and_then_only_edits_do() -> None:
    sent = downs(num_prototypes=2, bytes_rate=0.0, downlink="edit", assignment="static")
    firsts = [names for names in sent if PROTOTYPE in names]
    edits = [names for names in sent if names == {EDIT, VERSION}]
    assert len(firsts) >= 4
    assert len(firsts) + len(edits) == len(sent) == 24
    assert len(edits) > 0
    single = downs(num_prototypes=1, bytes_rate=0.0, downlink="edit")
    assert single == [{EDIT, VERSION}] * 24  # every device was deployed with it


def test_small_edits_are_not_sent_and_large_ones_are() -> None:
    settings = {"num_prototypes": 1, "bytes_rate": 0.0, "downlink": "index"}
    assert downs(**settings, edit_threshold=1e9) == [{VERSION}] * 24
    assert downs(**settings) == [{EDIT, VERSION}] * 24


def test_low_rank_edits_travel_as_factors_and_cost_less() -> None:
    tables = {
        rank: table(
            "persona",
            built=strategy(
                "persona", num_prototypes=1, bytes_rate=0.0, low_rank=rank, downlink="edit"
            ),
        )
        for rank in (None, 1)
    }
    assert tables[1].payload_bytes_down.sum() < 0.6 * tables[None].payload_bytes_down.sum()


def test_a_device_whose_message_was_lost_gets_its_prototype_again() -> None:
    persona = strategy(
        "persona", num_prototypes=2, bytes_rate=0.0, downlink="edit", assignment="static"
    )
    first = persona.answer(report(persona, sequences()))
    held = np.stack(
        [persona._assigned(persona._feature(report(persona, sequences())))[0], np.zeros(4, int)], 1
    )
    held[2] = (-1, 0)  # this one missed it
    again = persona.answer(report(persona, sequences(), held=held))
    assert all(PROTOTYPE in batch.array_names() for batch in first)
    resent = [batch for batch in again if PROTOTYPE in batch.array_names()]
    assert [batch.node_ids.tolist() for batch in resent] == [[4]]


def test_a_prototype_that_moved_has_a_new_version_and_travels_again() -> None:
    persona = strategy("persona", num_prototypes=1, bytes_rate=0.5, downlink="edit")
    held = [[0, 0]] * 4
    (one,) = persona.answer(report(persona, sequences(), held=held))
    (two,) = persona.answer(report(persona, sequences(), held=held))
    assert PROTOTYPE not in one.array_names() and PROTOTYPE in two.array_names()
    assert np.asarray(two.configs[VERSION][VERSION]).tolist() == [1] * 4


def test_the_bank_starts_again_with_each_deployment() -> None:
    persona = strategy("persona", bytes_rate=0.5)
    table("persona", built=persona)
    assert persona.bank.version.sum() > 0
    persona.deployment()
    assert persona.bank.version.sum() == 0


def test_a_bank_that_was_kept_goes_on_where_it_was() -> None:
    persona, other = (strategy("persona", bytes_rate=0.5) for _ in range(2))
    persona.answer(report(persona, sequences(0)))
    other.restore(persona.state())
    other.deployment()
    assert other.bank.version.sum() > 0
    one, two = full(persona, sequences(1)), full(other, sequences(1))
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name])
    for name, value in persona.state().items():
        np.testing.assert_array_equal(value, other.state()[name])
    with pytest.raises(
        ValueError, match=r"head.0.weight of the bank must have shape \(3, 8, 8\), got \(2, 8, 8\)"
    ):
        strategy("persona", num_prototypes=3).restore(persona.state())


def test_the_metrics_of_a_round_tell_the_sizes_of_prototypes() -> None:
    persona = strategy("persona", num_prototypes=3)
    _, seen = persona.aggregate_train(1, report(persona, sequences()))
    assert sum(seen["prototype-sizes"]) == 4
    assert 0 <= seen["saturated"] <= 1 and seen["mean-edit-norm"] > 0
    assert not persona.aggregate_train(2, [])[1]


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"low_rank": 2}, "low_rank must go with downlink=edit or index"),
        (
            {"low_rank": 2, "downlink": "edit", "refinement": "bytes", "bytes_rate": 0.1},
            "low_rank must go with refinement=none",
        ),
        ({"transfer": "transformer", "width": 6}, "width must be a multiple of 4 .*, got 6"),
    ],
)
def test_options_that_do_not_go_together_are_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(UserError, match=f"strategy.persona: {rule}"):
        build_strategy("persona", settings)
