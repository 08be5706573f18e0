"""One group: how large its edits are and what layers they give, against making the edits one by
one.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models import device_model
from cdc_flower.strategies.persona import group as module
from cdc_flower.strategies.persona.editor import ParameterEditor
from cdc_flower.strategies.persona.group import Group
from cdc_flower.strategies.persona.prototypes import Bank, norms

WIDTH = 8


def group_of(scale: float, clip: float, drift: float = 0.0) -> Group:
    """Decoders with entries of this size, some ten times as large, and a prototype that moved by so
    much.
    """
    editor = ParameterEditor(device_model("din", 20, WIDTH), WIDTH, clip=clip)
    draw = torch_generator(0, "group")
    parameters = editor.init(draw)
    for name, value in parameters.items():
        if name.startswith("decoder."):
            rare = 1.0 + 9.0 * (torch.rand(value.shape[-1], generator=draw) < 0.1)
            parameters[name] = scale * rare * torch.randn(value.shape, generator=draw)
    trained = {
        name: torch.randn(2, *shape, generator=draw)
        for name, shape in editor.model.adaptive.items()
    }
    bank = Bank.of(trained, torch.zeros(2, 1))
    if drift:
        moved = {
            name: drift * torch.randn(value.shape, generator=draw)
            for name, value in trained.items()
        }
        bank = replace(bank, drift=moved, version=np.array([0, 1]))
    return Group(editor, parameters, bank, 1)


def embeddings_of(group: Group, num_devices: int) -> list[torch.Tensor]:
    return group.embeddings(
        torch.randn(num_devices, WIDTH, generator=torch_generator(2, "features"))
    )


@given(
    scale=st.sampled_from([0.0, 0.003, 0.05, 1.0]),
    clip=st.sampled_from([0.0, 0.1, 1.0, float("inf")]),
    drift=st.sampled_from([0.0, 0.02, 0.5]),
    num_devices=st.sampled_from([1, WIDTH - 1, WIDTH, 40]),
)
def test_norms_and_layers_are_those_of_the_edits(
    scale: float, clip: float, drift: float, num_devices: int
) -> None:
    group = group_of(scale, clip, drift)
    embeddings = embeddings_of(group, num_devices)
    _, edits = group.edits(embeddings)
    torch.testing.assert_close(group.norms(embeddings).float(), norms(edits), rtol=1e-4, atol=1e-5)
    unclipped = replace(group, editor=replace(group.editor, clip=float("inf"))).edits(embeddings)[1]
    is_free = group.is_free(embeddings)
    if is_free:
        for name, value in group.layers(embeddings).items():
            torch.testing.assert_close(
                value, group.bank.layers[name][1] + edits[name], rtol=1e-5, atol=1e-6
            )
            torch.testing.assert_close(edits[name], unclipped[name])
    largest = max(float(value.abs().max()) for value in unclipped.values())
    assert is_free or largest > clip / 20  # the reach is a bound, not far from what is there
    assert not (is_free and largest > clip + 1e-6)


def test_edits_that_clipping_reaches_are_made_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    group = group_of(0.05, 0.1)
    whole = group.norms(embeddings_of(group, 40))
    monkeypatch.setattr(module, "NUMBERS_PER_CHUNK", 1000)
    torch.testing.assert_close(group.norms(embeddings_of(group, 40)), whole)


def test_where_clipping_is_rare_hardly_an_edit_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    group = group_of(0.003, 0.1)  # nine columns of ten stay below 0.1 whatever the embedding
    embeddings = embeddings_of(group, 40)
    made, product = [], torch.addmm

    def counted(*args: torch.Tensor) -> torch.Tensor:
        made.append(product(*args))
        return made[-1]

    monkeypatch.setattr(torch, "addmm", counted)
    group.norms(embeddings)
    assert 0 < sum(part.numel() for part in made) < 0.2 * 40 * group.editor.model.num_adaptive
