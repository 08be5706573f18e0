"""Damaged checkpoints are trained again, with one line in the log, and never used."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_cases import KEY, Interrupted, fresh, train_to, training
from safetensors.torch import save

from cdc_flower.core.integrity import BLANK, SEAL, Damaged, seal
from cdc_flower.training import checkpoints
from cdc_flower.training.checkpoints import Checkpoints, Resume, fingerprint
from cdc_flower.training.parameter_files import read_parameters

Tensors = dict[str, torch.Tensor]
CURVE = json.dumps([2.0, 1.0])


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends the log to ``caplog``, also after a run that kept it to its own file."""
    monkeypatch.setattr(checkpoints.log, "propagate", True)
    caplog.set_level("INFO", "cdc_flower")


def kept(folder: Path) -> Path:
    """A checkpoint with all numbers 1."""
    tensors = fresh()
    Checkpoints(folder).trained(KEY, tensors, train_to(tensors, 1.0, []))
    return folder / f"{fingerprint(KEY)}.safetensors"


def is_trained_again(path: Path, caplog: pytest.LogCaptureFixture, reason: str = "") -> bool:
    """Whether a training takes place, tells of it in one line, and leaves a good file."""
    caplog.clear()
    calls: list[float] = []
    tensors, again = fresh(), fresh()
    Checkpoints(path.parent).trained(KEY, tensors, train_to(tensors, 1.0, calls))
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    Checkpoints(path.parent).trained(KEY, again, train_to(again, 9.0, calls))
    return (
        calls == [1.0]
        and all(bool((value == 1.0).all()) for value in (*tensors.values(), *again.values()))
        and len(told) == 1
        and told[0].startswith(f"{path} is not used, ")
        and reason in told[0]
        and told[0].endswith(": training again")
    )


def cuts(data: bytes, chosen: random.Random) -> bytes:
    return data[: chosen.randrange(len(data))]


def flips(data: bytes, chosen: random.Random) -> bytes:
    flipped = bytearray(data)
    for _ in range(chosen.choice((1, 1, 2, 8))):
        flipped[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    # Two flips of one bit are none.
    return bytes(flipped) if bytes(flipped) != data else data + b"x"


@pytest.mark.parametrize("damage", [cuts, flips])
def test_a_file_that_is_cut_or_has_flipped_bits_is_trained_again(
    damage: Callable[[bytes, random.Random], bytes],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = kept(tmp_path)
    whole = path.read_bytes()
    for seed in range(50):
        path.write_bytes(damage(whole, random.Random(seed)))
        assert is_trained_again(path, caplog), seed


@pytest.mark.slow
def test_no_cut_and_no_flipped_bit_of_a_checkpoint_goes_unseen(tmp_path: Path) -> None:
    path = kept(tmp_path)
    whole = path.read_bytes()
    text = checkpoints._text(KEY)
    assert read_parameters(path, text) is not None
    damaged = [whole[:end] for end in range(len(whole))]
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(Damaged):
            read_parameters(path, text)


def good() -> Tensors:
    return {"a": torch.ones(2, 3), "b": torch.ones(())}


WHOLE = torch.ones(2, 3, dtype=torch.int32)


@pytest.mark.parametrize(
    ("tensors", "metadata", "reason"),
    [
        (
            {**good(), "a": torch.ones(2, 3, dtype=torch.int32)},
            {},
            "a must be float32 [2, 3], got int32",
        ),
        ({**good(), "a": torch.ones(3, 2)}, {}, "a must be float32 [2, 3], got float32 [3, 2]"),
        ({**good(), "b": torch.ones(1)}, {}, "b must be float32 [], got float32 [1]"),
        ({"a": torch.ones(2, 3)}, {}, "it lacks the tensor b"),
        ({**good(), "c": torch.ones(1)}, {}, "it has the tensor c"),
        (good(), {"curve": None}, "its validation curve is no JSON"),
        (good(), {"curve": "null"}, "its validation curve is no list of numbers"),
        (good(), {"curve": "[]"}, "its validation curve is no list of numbers"),
        (good(), {"curve": "[1, true]"}, "its validation curve is no list of numbers"),
        (good(), {"curve": "7"}, "its validation curve is no list of numbers"),
        (good(), {"curve": "[1.0,"}, "its validation curve is no JSON"),
        (good(), {"curve": "[" * 100_000}, "its validation curve is no JSON"),
        (good(), {"curve": "[1.0, NaN]"}, "its validation curve is not finite"),
        (good(), {"curve": "[1.0, 1e999]"}, "its validation curve is not finite"),
        (good(), {"key": "another"}, "it is of another training"),
        (good(), {"key": None}, "it is of another training"),
        (good(), {SEAL: None}, "it has no checksum"),  # as versions before this one wrote it
    ],
)
def test_a_file_that_was_not_written_by_this_training_is_trained_again(
    tensors: Tensors,
    metadata: dict[str, str | None],
    reason: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = kept(tmp_path)
    whole = {"key": checkpoints._text(KEY), "curve": CURVE, SEAL: BLANK, **metadata}
    data = save(tensors, {name: text for name, text in whole.items() if text is not None})
    path.write_bytes(seal(data) if whole[SEAL] else data)
    assert is_trained_again(path, caplog, reason)


def test_a_good_file_is_used_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = kept(tmp_path)
    metadata = {"key": checkpoints._text(KEY), "curve": CURVE, SEAL: BLANK}
    path.write_bytes(seal(save(good(), metadata)))
    assert not is_trained_again(path, caplog)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def left_under_way(folder: Path) -> Path:
    """The state of a training of six epochs that ended in the fourth."""
    broken, train = training(6, 3)
    with pytest.raises(Interrupted):
        Checkpoints(folder).trained(KEY, broken, train)
    return folder / f"{fingerprint(KEY)}.epoch"


@pytest.mark.parametrize("damage", [cuts, flips])
def test_a_training_whose_state_is_damaged_begins_anew(
    damage: Callable[[bytes, random.Random], bytes],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain, train = training(6)
    curve = Checkpoints().trained(KEY, plain, train)
    path = left_under_way(tmp_path)
    whole = path.read_bytes()
    for seed in range(8):
        path.write_bytes(damage(whole, random.Random(seed)))
        caplog.clear()
        again, train = training(6)
        assert Checkpoints(tmp_path).trained(KEY, again, train) == curve
        assert all(torch.equal(plain[name], again[name]) for name in plain)
        (told,) = (record.getMessage() for record in caplog.records)
        assert told.startswith(f"{path} is not used, ")
        (left,) = tmp_path.iterdir()
        left.unlink()


def test_a_state_that_is_good_is_taken_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = left_under_way(tmp_path)
    again, train = training(6)
    Checkpoints(tmp_path).trained(KEY, again, train)
    (told,) = (record.getMessage() for record in caplog.records)
    assert told == f"training goes on from epoch 3 of {path}"


def test_a_state_with_half_of_the_moments_of_a_leaf_is_not_taken_up(tmp_path: Path) -> None:
    plain, train = training(6)
    curve = Checkpoints().trained(KEY, plain, train)
    path = left_under_way(tmp_path)
    found = read_parameters(path, checkpoints._text(KEY))
    assert found is not None
    values, known = found
    for change in ({"exp_avg.0": None}, {"exp_avg_sq.1": torch.ones(5)}, {"best.1": None}):
        whole = {**values, **change}
        metadata = {"key": checkpoints._text(KEY), "curve": json.dumps(known), SEAL: BLANK}
        tensors = {name: value for name, value in whole.items() if value is not None}
        path.write_bytes(seal(save(tensors, metadata)))
        again, train = training(6)
        assert Checkpoints(tmp_path).trained(KEY, again, train) == curve
        (left,) = tmp_path.iterdir()
        left.unlink()


def test_two_that_train_the_same_at_once_end_with_the_same_and_leave_one_file(
    tmp_path: Path,
) -> None:
    """The other one trains as a whole during an epoch of the first, and removes its state."""
    plain, train = training(6)
    curve = Checkpoints().trained(KEY, plain, train)
    one, train_one = training(6)
    two, train_two = training(6)
    seen: list[list[float]] = []

    class Watched(Resume):
        def save(self, state: checkpoints.TrainingState, curve: list[float]) -> None:
            super().save(state, curve)
            if len(curve) == 3:
                seen.append(Checkpoints(tmp_path).trained(KEY, two, train_two))

    first = Checkpoints(tmp_path).trained(
        KEY, one, lambda resume: train_one(Watched(resume.path, resume.key))
    )
    assert first == curve and seen == [curve]
    assert all(
        torch.equal(plain[name], value) for part in (one, two) for name, value in part.items()
    )
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    assert read_parameters(next(tmp_path.iterdir()), checkpoints._text(KEY)) is not None
