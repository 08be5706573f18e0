"""Persona: neutral values, what its stages train, and the bank that it keeps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from persona_cases import EVERYONE, full, report, sequences
from tiny import cloud, model, same, strategy, table

from cdc_flower.core.errors import UserError
from cdc_flower.strategies.group_fine_tuning import GroupFineTuning
from cdc_flower.strategies.persona import Persona
from cdc_flower.strategies.persona.stages import Groups, Stages
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.training.checkpoints import Checkpoints

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
