"""Which prototype Persona assigns to a device, and what a device gets among others."""

import numpy as np
import pytest
import torch
from persona_cases import EVERYONE, full, report, sequences
from tiny import cloud, strategy

from cdc_flower.strategies.persona.prototypes import norms
from cdc_flower.wire import records


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
