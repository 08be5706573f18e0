"""The parameter editor: what it adds to a prototype, and what that depends on."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models import DIN, GRU4Rec, SASRec, device_model
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.editor import ParameterEditor
from cdc_flower.strategies.persona.transfer import layer_embeddings

WIDTH, NUM_ITEMS, NUM_DEVICES = 8, 60, 5
HISTORY = torch.from_numpy(np.random.default_rng(0).integers(1, NUM_ITEMS, (NUM_DEVICES, 10)))


def editor_of(
    name: str = "gru4rec", **settings: Any
) -> tuple[ParameterEditor, Parameters, Parameters]:
    """An editor of a small model, its parameters, and the model's."""
    model = device_model(name, NUM_ITEMS, WIDTH)
    editor = ParameterEditor(model, WIDTH, **settings)
    return (
        editor,
        editor.init(torch_generator(0, "editor")),
        model.init(torch_generator(0, "model")),
    )


def moved(parameters: Parameters, scale: float = 1.0) -> Parameters:
    """The same with decoders that are not zero any more, as after training."""
    draw = torch_generator(1, "decoders")
    return {
        name: value + scale * torch.randn(value.shape, generator=draw)
        if name.startswith("decoder.")
        else value
        for name, value in parameters.items()
    }


def edits_of(
    editor: ParameterEditor, own: Parameters, static: Parameters, history: torch.Tensor
) -> Parameters:
    return editor.edits(own, editor.embeddings(own, editor.feature(own, static, history)))


@pytest.mark.parametrize("name", ["gru4rec", "sasrec", "din"])
@pytest.mark.parametrize("low_rank", [None, 2])
def test_the_first_edit_is_zero_and_the_edited_head_is_the_prototype_to_the_bit(
    name: str, low_rank: Any
) -> None:
    editor, own, static = editor_of(name, low_rank=low_rank)
    edits = edits_of(editor, own, static, HISTORY)
    assert {key: value.shape for key, value in edits.items()} == {
        key: (NUM_DEVICES, *shape) for key, shape in editor.model.adaptive.items()
    }
    for key, value in edits.items():
        assert (value == 0).all()
        assert torch.equal(static[key] + value[0], static[key])


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 2), st.sampled_from([None, 1, 3]), st.integers(0, 3))
def test_no_entry_of_an_edit_is_beyond_the_clip(
    clip: float, low_rank: int | None, scale: int
) -> None:
    editor, own, static = editor_of(clip=clip, low_rank=low_rank)
    for value in edits_of(editor, moved(own, float(scale)), static, HISTORY).values():
        assert value.abs().max() <= clip * (1 + 1e-6)


def test_a_clip_of_zero_leaves_the_prototype_and_an_infinite_one_clips_nothing() -> None:
    editor, own, static = editor_of(clip=0.0)
    own = moved(own, 5.0)
    assert all((value == 0).all() for value in edits_of(editor, own, static, HISTORY).values())
    wide, free = (
        edits_of(editor_of(clip=clip)[0], own, static, HISTORY) for clip in (1e9, float("inf"))
    )
    for key, value in wide.items():
        assert torch.equal(value, free[key])
        assert value.abs().max() > 1


def test_an_edit_is_the_decoded_embedding_reshaped_weight_first_and_bias_last() -> None:
    editor, own, static = editor_of()
    own = moved(own, 0.1)
    embeddings = editor.embeddings(own, editor.feature(own, static, HISTORY))
    flat = embeddings[1] @ own["decoder.1.weight"] + own["decoder.1.bias"]
    edits = editor.edits(own, embeddings)
    assert edits["head.1.weight"][2, 3, 4].item() == pytest.approx(
        flat[2, 3 * WIDTH + 4].item(), abs=1e-6
    )
    assert edits["head.1.bias"][2, 4].item() == pytest.approx(
        flat[2, WIDTH * WIDTH + 4].item(), abs=1e-6
    )


@pytest.mark.parametrize("transfer", ["gru", "transformer", "none", "cloned"])
def test_a_device_alone_gets_the_edit_that_it_gets_among_others(transfer: str) -> None:
    editor, own, static = editor_of(transfer=transfer)
    own = moved(own)
    together = edits_of(editor, own, static, HISTORY)
    for device in range(NUM_DEVICES):
        for key, value in edits_of(editor, own, static, HISTORY[device : device + 1]).items():
            torch.testing.assert_close(value[0], together[key][device], rtol=1e-5, atol=1e-6)


def test_the_same_sequence_gives_the_same_edit_and_another_another() -> None:
    editor, own, static = editor_of()
    edits = edits_of(editor, moved(own), static, HISTORY[[0, 0, 1]])
    for value in edits.values():
        torch.testing.assert_close(value[0], value[1], rtol=1e-6, atol=1e-7)
        assert not torch.allclose(value[0], value[2], atol=1e-4)


@pytest.mark.parametrize("name", ["gru4rec", "sasrec", "din"])
def test_more_padding_changes_nothing(name: str) -> None:
    editor, own, static = editor_of(name)
    own, history = moved(own), HISTORY.clone()
    history[:, 6:] = 0
    short = edits_of(editor, own, static, history)
    if name == "sasrec":  # learned positions: the model has ten of them
        history[:, 6:] = 0
        padded = history
    else:
        padded = torch.cat([history, torch.zeros(NUM_DEVICES, 5, dtype=torch.long)], 1)
    for key, value in edits_of(editor, own, static, padded).items():
        torch.testing.assert_close(value, short[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("transfer", ["gru", "transformer", "none"])
def test_with_transfer_what_goes_into_layer_1_changes_the_embedding_of_layer_2(
    transfer: str,
) -> None:
    editor, own, _ = editor_of(transfer=transfer)
    feature = torch.randn(NUM_DEVICES, WIDTH, generator=torch_generator(0, "feature"))
    before = editor.embeddings(own, feature)
    disturbed = {**own, "transfer.0.input.bias": own["transfer.0.input.bias"] + 1.0}
    after = editor.embeddings(disturbed, feature)
    assert not torch.allclose(before[0], after[0], atol=1e-4)
    assert torch.equal(before[1], after[1]) == (transfer == "none")


def test_a_gru_hands_on_to_later_layers_only() -> None:
    editor, own, _ = editor_of("din")
    feature = torch.randn(NUM_DEVICES, WIDTH, generator=torch_generator(0, "feature"))
    disturbed = {**own, "transfer.1.input.bias": own["transfer.1.input.bias"] + 1.0}
    before, after = editor.embeddings(own, feature), editor.embeddings(disturbed, feature)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[2], after[2], atol=1e-4)


def test_the_gru_over_layers_is_that_of_torch() -> None:
    editor, own, _ = editor_of("din")
    feature = torch.randn(NUM_DEVICES, WIDTH, generator=torch_generator(0, "feature"))
    inputs = torch.stack(
        [
            feature @ own[f"transfer.{k}.input.weight"] + own[f"transfer.{k}.input.bias"]
            for k in range(3)
        ],
        1,
    )
    reference = gru(own, "transfer.gru")
    states, _ = reference(inputs)
    hidden = torch.tanh(states @ own["transfer.output.0.weight"] + own["transfer.output.0.bias"])
    expected = torch.tanh(hidden @ own["transfer.output.1.weight"] + own["transfer.output.1.bias"])
    for layer, embedding in enumerate(editor.embeddings(own, feature)):
        torch.testing.assert_close(embedding, expected[:, layer])


def test_the_released_code_clones_one_feature_through_a_gru_of_as_many_layers() -> None:
    _, own, _ = editor_of(transfer="cloned")
    feature = torch.randn(NUM_DEVICES, WIDTH, generator=torch_generator(0, "feature"))
    first, _ = gru(own, "transfer.gru.0")(feature.unsqueeze(1).expand(-1, 2, -1))
    second, _ = gru(own, "transfer.gru.1")(first)
    for layer, states in enumerate((first, second)):
        hidden = torch.tanh(
            states[:, -1] @ own["transfer.output.0.weight"] + own["transfer.output.0.bias"]
        )
        expected = torch.tanh(
            hidden @ own["transfer.output.1.weight"] + own["transfer.output.1.bias"]
        )
        torch.testing.assert_close(layer_embeddings(own, "cloned", feature, 2)[layer], expected)


def gru(own: Parameters, name: str) -> torch.nn.GRU:
    """Torch's, with our parameters."""
    reference = torch.nn.GRU(WIDTH, WIDTH, batch_first=True)
    with torch.no_grad():
        reference.weight_ih_l0.copy_(own[f"{name}.input.weight"].T)
        reference.bias_ih_l0.copy_(own[f"{name}.input.bias"])
        reference.weight_hh_l0.copy_(own[f"{name}.hidden.weight"].T)
        reference.bias_hh_l0.copy_(own[f"{name}.hidden.bias"])
    return reference.requires_grad_(False)


@pytest.mark.parametrize("low_rank", [None, 2])
@pytest.mark.parametrize("name", ["gru4rec", "din"])
def test_the_head_used_in_training_is_the_prototype_plus_the_edit(
    name: str, low_rank: int | None
) -> None:
    editor, own, static = editor_of(name, low_rank=low_rank, clip=0.5)
    own = moved(own)
    embeddings = editor.embeddings(own, editor.feature(own, static, HISTORY))
    x = torch.randn(
        NUM_DEVICES, 3, editor.model.head_sizes[0][0], generator=torch_generator(0, "x")
    )
    edits = editor.edits(own, embeddings)
    layers = {key: static[key] + value for key, value in edits.items()}
    torch.testing.assert_close(
        editor.head(own, embeddings, static, x), editor.model.head(layers, x)
    )


def test_low_rank_factors_multiply_to_the_edit_and_its_rank_is_low() -> None:
    editor, own, static = editor_of(low_rank=2)
    embeddings = editor.embeddings(own := moved(own), editor.feature(own, static, HISTORY))
    factors, edits = editor.factors(own, embeddings), editor.edits(own, embeddings)
    for layer in range(2):
        left, right = factors[f"head.{layer}.left"], factors[f"head.{layer}.right"]
        assert left.shape == (NUM_DEVICES, WIDTH, 2) and right.shape == (NUM_DEVICES, 2, WIDTH)
        torch.testing.assert_close(left @ right, edits[f"head.{layer}.weight"])
        assert (torch.linalg.matrix_rank(edits[f"head.{layer}.weight"]) == 2).all()


def test_coordinates_lie_as_far_from_each_other_as_the_edits_do() -> None:
    editor, own, static = editor_of("din", clip=float("inf"))
    embeddings = editor.embeddings(own := moved(own), editor.feature(own, static, HISTORY))
    edits = editor.edits(own, embeddings)
    flat = torch.cat([edits[f"head.{k}.weight"].flatten(1) for k in range(3)], 1)
    points = editor.coordinates(own, embeddings)
    assert points.shape == (NUM_DEVICES, 3 * WIDTH)
    torch.testing.assert_close(
        torch.cdist(points, points), torch.cdist(flat, flat), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize(("kind", "numbers"), [(GRU4Rec, 2112), (SASRec, 2112), (DIN, 16641)])
def test_an_edit_has_as_many_numbers_as_the_adaptive_layers(kind: Any, numbers: int) -> None:
    model = kind(NUM_ITEMS, 32)
    editor = ParameterEditor(model)
    own, static = editor.init(torch_generator(0, "editor")), model.init(torch_generator(0, "model"))
    assert (
        sum(value[0].numel() for value in edits_of(editor, own, static, HISTORY).values())
        == numbers
    )


def test_random_decoders_edit_from_the_start_and_are_not_among_what_is_trained() -> None:
    editor, own, static = editor_of(random_decoders=True, transfer="cloned")
    assert all(own[name].abs().max() < 2 for name in own if name.startswith("decoder."))
    beyond = [
        (value.abs() == 1).float().mean().item()
        for value in edits_of(editor, own, static, HISTORY).values()
    ]
    assert min(beyond) > 0.2  # most of what the released code does is to saturate
    assert not any(name.startswith("decoder.") for name in editor.trained(own))
    assert set(ParameterEditor(editor.model, WIDTH).trained(own)) == set(own)


def test_work_is_that_of_the_feature_the_transfer_and_the_decoders() -> None:
    editor, _, _ = editor_of()
    w = WIDTH
    feature = 10 * 3 * 2 * w * w + 2 * w * w
    transfer = 2 * w * w + 2 * 6 * w * w + 2 * 2 * w * w
    decoders = 2 * w * (w + 1) * w
    assert editor.flops(10) == 2 * (feature + transfer + decoders)
    assert editor.comparison_flops() == 2 * (transfer + 2 * w * w)
    low_rank = editor_of(low_rank=3)[0]
    assert low_rank.comparison_flops() == 2 * (transfer + 2 * w * (w * 3 + 3 * w + w))


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (
            {"transfer": "lstm"},
            "transfer must be one of gru, transformer, none, cloned, got lstm",
        ),
        ({"transfer": "transformer", "width": 6}, "width must be a multiple of 4 .*, got 6"),
        ({"clip": -1}, "clip must be a number >= 0, got -1"),
        ({"low_rank": 0}, "low_rank must be a whole number >= 1 or null, got 0"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        ParameterEditor(device_model("gru4rec", NUM_ITEMS, WIDTH), **settings)
