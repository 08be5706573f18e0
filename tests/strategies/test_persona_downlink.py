"""What Persona sends down: layers, prototypes with their versions, edits, and nothing twice."""

from typing import Any

import numpy as np
import pytest
from persona_cases import report, sequences
from tiny import Around, inline, strategy, table

from cdc_flower.strategies.persona.decoder import EDIT, PROTOTYPE, VERSION
from cdc_flower.wire import records


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
