"""Hostile devices with clips: noise in place of frames, another answer for the true one."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from attack_cases import made
from tiny import LABELS, fleet, same
from video_tiny import video_inline, video_strategy, video_stream, video_table, video_task

from cdc_flower.simulations.attacks.link import WithAttack
from cdc_flower.simulations.attacks.setup import scene_of
from cdc_flower.study.play import play


def played(name: str, attack: str, **settings: Any) -> pd.DataFrame:
    stream, frames = video_stream(), []  # type: ignore[var-annotated]
    link = WithAttack(made(attack, share=0.5, **settings), 0, scene_of(stream))
    play(
        video_strategy(name, stream),
        video_inline(stream),
        fleet(stream.num_devices),
        stream.segment_starts_s,
        labels={**LABELS, "strategy": name},
        collect=frames.append,
        task=video_task(stream),
        chain=[link],
    )
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize(
    ("name", "attack", "settings"),
    [
        pytest.param("duet", "report_poisoning", {"kind": "random"}, marks=pytest.mark.slow),
        pytest.param("duet", "report_poisoning", {"kind": "other_context"}, marks=pytest.mark.slow),
        ("fedavg", "label_flip", {}),
        ("fedavg", "sign_flip", {"scale": 10.0}),
        ("cloud_fine_tuning", "label_flip", {}),
    ],
)
def test_an_attack_reaches_devices_with_clips_and_no_byte_differs(
    name: str, attack: str, settings: dict[str, Any]
) -> None:
    plain, attacked = video_table(name), played(name, attack, **settings)
    assert not np.allclose(plain.value_sum, attacked.value_sum, equal_nan=True)
    same(
        plain.drop(columns=["value_sum", "value_count"]),
        attacked.drop(columns=["value_sum", "value_count"]),
    )


def test_reports_are_no_matter_of_averaging_on_clips_either() -> None:
    same(video_table("fedavg"), played("fedavg", "report_poisoning"))
