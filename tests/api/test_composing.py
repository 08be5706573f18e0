"""Keys and plain values become the overrides of the command line."""

from pathlib import Path

import hydra
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.api.composing import composed, flat, written
from cdc_flower.core.errors import UserError
from cdc_flower.study.overrides import parsed

texts = st.text(st.characters(codec="ascii", exclude_characters="$\n\r"), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(plain)
def test_a_value_is_read_as_it_was_written(value: object) -> None:
    (override,) = parsed([f"key={written(value, 'key')}"])
    assert override.value() == value
    assert not override.is_sweep_override()


def test_what_looks_like_another_type_stays_text() -> None:
    for text in ("null", "True", "1", "1e3", "a,b", "a=b", "", " x", '\\"', "c:\\"):
        (override,) = parsed([f"key={written(text, 'key')}"])
        assert override.value() == text
    assert written(np.float32(0.5), "key") == "0.5"
    assert written(Path("a b"), "key") == '"a b"'
    assert written({"a": (1, None)}, "key") == "{a:[1,null]}"


def test_what_is_no_plain_value_is_refused_with_its_key() -> None:
    with pytest.raises(UserError, match=r"config: cloud\.rate must have a plain value.*got object"):
        written([object()], "cloud.rate")


def test_nested_keys_are_joined_and_a_key_comes_once() -> None:
    assert flat({"cloud": {"epochs": 5}, "seed": 1}) == {"cloud.epochs": 5, "seed": 1}
    with pytest.raises(UserError, match=r"cloud\.epochs must be given once"):
        flat({"cloud": {"epochs": 5}, "cloud.epochs": 6})


def test_keys_need_no_plus_and_give_the_overrides_of_the_command_line() -> None:
    config, overrides = composed(
        {"strategies": ["slow"], "strategy.slow.method": "duet", "network": "lora", "seed": 3}
    )
    assert overrides == [
        "network=lora",
        "strategies=[slow]",
        "+strategy.slow.method=duet",
        "seed=3",
    ]
    assert config["network"]["name"] == "lora" and config["seed"] == 3
    assert config["strategy"]["slow"] == {"method": "duet"}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"cloud.epoch": 5}, "cloud.epoch is no key of cloud; did you mean epochs?"),
        ({"network": "let"}, "network: unknown choice of network 'let'; did you mean 'lte'?"),
        ({"a b": 1}, "config: a key must be names joined by dots, got 'a b'"),
        ({"data": "ml_1m"}, "data.path must be given on the command line or in a file"),
    ],
)
def test_mistakes_are_told_as_on_the_command_line(keys: dict[str, object], text: str) -> None:
    with pytest.raises(UserError) as told:
        composed(keys)
    assert text in str(told.value)


def test_hydra_is_left_as_its_user_had_set_it_up(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.2"):
        before = hydra.version.getbase()
        composed({"seed": 1})
        with pytest.raises(UserError):
            composed({"sed": 1})
        assert hydra.compose("mine").a == 1
        assert hydra.version.getbase() == before
    assert not GlobalHydra.instance().is_initialized()
