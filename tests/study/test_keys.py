"""Keys and choices against the YAML files: what is refused, how, and before anything slow."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose
from omegaconf import OmegaConf

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import defaults_of, options_of
from cdc_flower.study import keys, known_keys
from cdc_flower.study.catalog import entries_of_group
from cdc_flower.study.composing import composed_config, group_names, hydra_at, plain
from cdc_flower.study.keys import check_overrides
from cdc_flower.tasks.data import data, find_data


@pytest.fixture
def hydra() -> Iterator[None]:
    """Hydra with the package's files."""
    with hydra_at():
        yield


def refusal(*overrides: str) -> str:
    """The sentence with which overrides are refused."""
    with pytest.raises(UserError) as caught:
        check_overrides(overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (
            "strategy.persona.refinement_rate=0.1",
            "refinement_rate is no key of strategy.persona; it is now bytes_rate, with "
            "refinement=bytes (known: ",
        ),
        ("+foo=1", "foo is no key of the configuration (known: also, attack, "),
        ("num_segment=5", "num_segment is no key of the configuration; did you mean num_segments?"),
        ("+num_segment=5", "did you mean num_segments?"),
        ("netwrok=lte", "did you mean network?"),
        ("+policy.rate=0.5", "no key of policy=always; policy=random and policy=uncertainty have"),
        ("policy=random +policy.rat=0.5", "no key of policy=random; did you mean rate?"),
        ("+fleet.speed=5", "no key of fleet=phones; did you mean speed_quantiles?"),
        (
            "+model.num_heads=4",
            "no key of model=gru4rec (known: adaptive, head_sizes, history_length, name, width)",
        ),
        ("task=video_qa +model.num_heads=4", "no key of model=video_tiny; did you mean heads?"),
        (
            "+network.rate_up=5",
            "network.rate_up is no key of network=lte; did you mean rate_up_bps",
        ),
        ("+conditions.los=1", "conditions.los is no key of conditions; did you mean loss?"),
        ("data.nam=x", "data.nam is no key of data=regimes; did you mean name?"),
        (
            "+cloud.patience=3",
            "cloud.patience is no key any more; write cloud.patience_steps, which counts steps",
        ),
        ("+metrics.tie=mean", "metrics.tie is no key of metrics; did you mean ties?"),
        ("cloud={epoch:3}", "cloud.epoch is no key of cloud; did you mean epochs?"),
        ("cloud.adaptation.batch=3", "no key of cloud.adaptation; did you mean batch_size?"),
        ("network.rtt_s.x=4", "network.rtt_s holds one value, got the key network.rtt_s.x"),
        ("strategy.duet.rat=1", "strategy.duet.rat is no key of strategy.duet; did you mean rate?"),
        ("+strategy.mine.rate=1", "strategy.mine must have a method"),
        (
            "+strategy.mine.method=dute",
            "strategy.mine.method: unknown strategy 'dute'; did you mean",
        ),
        ("+strategy.mine={method:duet,rat:1}", "strategy.mine.rat is no key of strategy.mine"),
    ],
)
def test_a_key_that_no_file_has_is_refused_with_its_place_and_the_nearest(
    overrides: str, text: str, hydra: None
) -> None:
    assert text in refusal(*overrides.split(" "))


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("network=let", "network: unknown choice of network 'let'; did you mean 'lte'?"),
        ("network=null", "network: unknown choice of network 'null' (known: 3g, "),
        ("network=[lte]", "unknown choice of network '[lte]'; did you mean 'lte'?"),
        ("strategy=[static,dute]", "unknown choice of strategy 'dute'; did you mean 'duet'?"),
        ("~network", "network cannot be left out"),
        ("network@x=lte", "a group has its own place; write network=NAME"),
        ("hydra.launcher=joblib", "hydra.launcher cannot be changed"),
        ("hydra/launcher=joblib", "hydra/launcher cannot be changed"),
        ("foo", "foo: a change must be KEY=VALUE"),
        ("=3", "=3: a change must be KEY=VALUE"),
        ("cache=[1", "cache=[1: the value cannot be read"),
        ("seed=0,1", "seed has several values; write -m"),
        ("+num_segments=5", "num_segments is there already; write num_segments=5 without +"),
        ("+network=lte", "network has a choice already; write it without +"),
        ("strategy.mine.method=duet", "is in no file yet; write +strategy.mine.method=duet"),
    ],
)
def test_what_hydra_would_refuse_at_length_is_one_sentence(
    override: str, text: str, hydra: None
) -> None:
    assert text in refusal(override)


@pytest.mark.parametrize(
    "overrides",
    [
        "",
        "task=video_qa strategy.fedavg.layers=all model.heads=2",
        "experiment=leave_last_out data=ml_1m data.path=x strategy.duet_stale.report_lag=2",
        "experiment=bandwidth_stress network=hsdpa network.path=x fleet.num_devices=3",
        "+strategy.mine.rate=0.1 +strategy.mine.method=duet strategies=[static,mine]",
        "+strategy.mine={method:duet,rate:0.1}",
        "~strategy.duet",
        "strategies.0=duet",
        "cloud={epochs:3}",
        "++num_segments=3",
        "data=ml_1m data.exclude_seen=false",
        "data=letter_beauty +data.columns=[user,item] data.format=delimited",
        "task=video_qa data=video_annotations +data.msvd=x",
        "+model._target_=cdc_flower.models.sasrec.SASRec model.width=8",
        "hydra.searchpath=[pkg://cdc_flower.configs]",
    ],
)
def test_keys_of_the_files_and_of_objects_of_ones_own_pass(overrides: str, hydra: None) -> None:
    check_overrides(overrides.split())


def test_every_run_of_a_sweep_is_checked(hydra: None) -> None:
    check_overrides(["policy=random,uncertainty", "policy.rate=0.1,0.2"], several=True)
    check_overrides(["network=glob(n*)", "seed=range(0,3)"], several=True)
    with pytest.raises(UserError, match=r"policy\.rate is no key of policy=every"):
        check_overrides(["policy=random,every", "policy.rate=0.1,0.2"], several=True)


@pytest.mark.parametrize(
    "overrides",
    [
        "seed=3",
        "network=nb_iot model=sasrec policy=random",
        "strategies.0=duet cloud={epochs:3} ~strategy.duet",
    ],
)
def test_the_files_of_a_command_line_are_composed_once(
    overrides: str, hydra: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def counted(*given: Any) -> Any:
        calls.append(given)
        return composed_config(*given)

    for module in (keys, known_keys):
        monkeypatch.setattr(module, "composed_config", counted)
    check_overrides(overrides.split())
    assert len(calls) == 1


@pytest.mark.parametrize("chosen", [[], ["network=nb_iot", "model=sasrec", "policy=random"]])
def test_the_keys_of_a_composed_root_are_those_of_its_files(chosen: list[str], hydra: None) -> None:
    composed = composed_config("config", chosen)
    choices = dict(composed.hydra.runtime.choices)
    names = {group: choices[group] for group in group_names() if choices.get(group)}
    given = (names, plain(composed), chosen, {})
    root = plain(composed)
    known = known_keys.known_keys(*given, root)
    assert known_keys._has_every_key(names, chosen, root)
    assert known == known_keys.known_keys(*given)
    assert root == plain(composed)  # it is left as it was


def data_node(name: str) -> dict[str, Any]:
    """The keys of a file of data with their values."""
    node: Any = OmegaConf.to_container(compose("config", overrides=[f"data={name}"])["data"])
    return dict(node)


@pytest.mark.parametrize("name", entries_of_group("data"))
def test_every_key_of_a_file_of_data_is_an_option_of_it(name: str, hydra: None) -> None:
    node = data_node(name)
    assert set(node) <= set(options_of(find_data(node).value))


@pytest.mark.parametrize("name", ["shifting_interests", "moving_digits"])
def test_the_file_of_embedded_data_holds_every_option_with_its_default(
    name: str, hydra: None
) -> None:
    assert data_node(name) == defaults_of(options_of(data[name].value))


@pytest.mark.parametrize("override", ["+policy.rate=0.5", "network=let"])
def test_a_wrong_key_is_told_within_two_seconds_and_before_anything_slow_is_imported(
    override: str,
) -> None:
    code = (
        "import atexit, json, resource, sys\n"
        "from cdc_flower.cli import main\n"
        "def tell():\n"
        "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    slow = {'torch', 'flwr', 'matplotlib', 'pandas', 'ray'} & set(sys.modules)\n"
        "    print(json.dumps([used.ru_utime + used.ru_stime, sorted(slow)]))\n"
        "atexit.register(tell)\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, override], capture_output=True, text=True, timeout=120
    )

    seconds, slow = json.loads(done.stdout)
    assert done.returncode == 2 and done.stderr.startswith("cdc-flower: ")
    assert not slow
    assert seconds < 2.0  # of computing, whoever else uses the machine
