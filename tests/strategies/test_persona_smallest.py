"""How large edits would be, against making them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.layers import Parameters
from cdc_flower.models import device_model
from cdc_flower.seeds import torch_generator
from cdc_flower.strategies.persona import smallest
from cdc_flower.strategies.persona.editor import ParameterEditor
from cdc_flower.strategies.persona.prototypes import Bank, norms
from cdc_flower.strategies.persona.smallest import edit_norms

WIDTH = 8


def editor_of(scale: float, clip: float) -> tuple[ParameterEditor, Parameters]:
    """An editor whose decoders have entries of this size, some ten times as large."""
    editor = ParameterEditor(device_model("din", 20, WIDTH), WIDTH, clip=clip)
    draw = torch_generator(0, "smallest")
    parameters = editor.init(draw)
    for name, value in parameters.items():
        if name.startswith("decoder."):
            rare = 1.0 + 9.0 * (torch.rand(value.shape[-1], generator=draw) < 0.1)
            parameters[name] = scale * rare * torch.randn(value.shape, generator=draw)
    return editor, parameters


def bank_of(editor: ParameterEditor, drift: float) -> Bank:
    draw = torch_generator(1, "smallest")
    trained = {name: torch.zeros(1, *shape) for name, shape in editor.model.adaptive.items()}
    bank = Bank.of(trained, torch.zeros(1, 1))
    if not drift:
        return bank
    moved = {name: drift * torch.randn(value.shape, generator=draw) for name, value in trained.items()}
    return replace(bank, drift=moved, version=np.ones(1, np.int64))


@given(
    scale=st.sampled_from([0.0, 0.003, 0.05, 1.0]),
    clip=st.sampled_from([0.0, 0.1, 1.0, float("inf")]),
    drift=st.sampled_from([0.0, 0.02, 0.5]),
    num_devices=st.sampled_from([1, WIDTH - 1, WIDTH, 40]),
)
def test_norms_are_those_of_the_edits_that_would_be_made(
    scale: float, clip: float, drift: float, num_devices: int
) -> None:
    editor, parameters = editor_of(scale, clip)
    bank = bank_of(editor, drift)
    feature = torch.randn(num_devices, WIDTH, generator=torch_generator(2, "smallest"))
    embeddings = editor.embeddings(parameters, feature)
    expected = norms(bank.residual(0, editor.edits(parameters, embeddings), clip))
    given_drift = {name: value[0] for name, value in bank.drift.items()} if drift else None
    sizes = edit_norms(editor, parameters, embeddings, given_drift)
    torch.testing.assert_close(sizes.float(), expected, rtol=1e-4, atol=1e-5)


def test_edits_that_clipping_reaches_are_made_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    editor, parameters = editor_of(0.05, 0.1)
    embeddings = editor.embeddings(parameters, torch.randn(40, WIDTH, generator=torch_generator(2, "smallest")))
    whole = edit_norms(editor, parameters, embeddings)
    monkeypatch.setattr(smallest, "NUMBERS_PER_CHUNK", 1000)
    torch.testing.assert_close(edit_norms(editor, parameters, embeddings), whole)


def test_where_clipping_is_rare_hardly_an_edit_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    editor, parameters = editor_of(0.003, 0.1)  # nine columns of ten stay below 0.1 whatever the embedding
    embeddings = editor.embeddings(parameters, torch.randn(40, WIDTH, generator=torch_generator(2, "smallest")))
    made, product = [], torch.addmm

    def counted(*args: torch.Tensor) -> torch.Tensor:
        made.append(product(*args))
        return made[-1]

    monkeypatch.setattr(torch, "addmm", counted)
    edit_norms(editor, parameters, embeddings)
    assert 0 < sum(part.numel() for part in made) < 0.2 * 40 * editor.model.num_adaptive
