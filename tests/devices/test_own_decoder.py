"""A decoder of a module of the user's own, which every process finds by its path."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_cases import EVERYONE, app_of, model_arrays, to_devices
from tiny import app, cloud, inline, same, stream, table

from cdc_flower.core.errors import UserError
from cdc_flower.devices.app import DeviceApp
from cdc_flower.devices.decoders import deployment
from cdc_flower.devices.decoders.deployment import decoders_of, paths_of
from cdc_flower.devices.decoders.protocol import Decoder, Received
from cdc_flower.devices.decoders.registry import DECODERS, register
from cdc_flower.devices.state import DeviceStates
from cdc_flower.simulations.deployment import deploy
from cdc_flower.wire import records

MODULE = '''
"""The cloud sends one number a device, by which the device scales the layers that were deployed."""

from typing import ClassVar

import numpy as np

from cdc_flower.devices.decoders.protocol import Decoder, Received, arrays_of, placed
from cdc_flower.devices.slots import Slot
from cdc_flower.strategies.generation import GenerationStrategy
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


class ScaleDecoder(Decoder):
    """Scales a base that stays on the device, and counts the messages."""

    name: ClassVar[str] = "scale"
    reads: ClassVar[tuple[str, ...]] = ("scale",)

    def deployed(self, states, settings):
        return Slot({"base": np.zeros(len(states), int)}, {"count": np.zeros(len(states), int)})

    def tells(self, states):
        return {"count": states.slots[self.name].rows["count"]}

    def decode(self, batch, states, adaptive):
        slot, scale = states.slots[self.name], arrays_of(batch, "scale")["by"]
        base = {name: states.pool[name][slot.index["base"]] for name in adaptive}
        made = {
            name: value * scale.reshape(-1, *[1] * (value.ndim - 1)).astype(value.dtype)
            for name, value in base.items()
        }
        counted = Slot(slot.index, {"count": slot.rows["count"] + 1})
        return placed(made, states.with_slots({self.name: counted}))


class Scale(GenerationStrategy):
    """Scales by one more than the messages that a device says it got."""

    def decoders(self):
        return (ScaleDecoder,)

    def answer(self, reports):
        self.counts = np.asarray(reports.array(records.REPORT, "count"))
        by = {"by": 1.0 + self.counts}
        return [MessageBatch(records.EVALUATE, reports.node_ids, arrays={"scale": by})]
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_scale.py").write_text(MODULE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        import own_scale

        yield own_scale
        sys.modules.pop("own_scale", None)
        deployment._own.cache_clear()  # another set-up of this makes other classes


def prepared(own: Any) -> Any:
    built = own.Scale()
    built.prepare(cloud())
    return built


def test_a_strategy_with_a_decoder_of_its_own_is_played(own: Any) -> None:
    grid, built = inline(), prepared(own)
    table("scale", grid, built=built)
    states: Any = grid.states
    num_segments = stream().num_segments
    assert built.counts.tolist() == [num_segments - 1] * 4  # told by the last report
    assert states.slots["scale"].rows["count"].tolist() == [num_segments] * 4
    for name in grid.handler.model.adaptive:
        for row in range(4):
            np.testing.assert_allclose(
                states.pool[name][states.in_use[row]],
                built.deployment()[name] * num_segments,
                rtol=1e-6,
            )


@pytest.mark.ray
def test_workers_of_ray_import_it(own: Any) -> None:
    from cdc_flower.simulations.grids.ray import RayGrid

    grid = RayGrid(app(), np.arange(4), num_workers=2)
    try:
        same(
            table("scale", built=prepared(own)),
            table("scale", grid, built=prepared(own)),
            rtol=1e-5,
        )
    finally:
        grid.close()


def test_a_fresh_process_imports_it(own: Any, tmp_path: Path) -> None:
    grid, built = inline(), prepared(own)
    deploy(grid, built)
    by = {"scale": {"by": np.full(4, 3.0)}}
    batch = to_devices(records.EVALUATE, np.arange(4), 1, arrays=by)
    states: Any = grid.states
    _, expected = grid.handler.handle(batch, states)
    record = [states.select(np.array([row])).to_record() for row in range(4)]
    (tmp_path / "in").write_bytes(pickle.dumps((grid.handler, batch, record)))
    script = (
        "import pickle, sys, numpy as np\n"
        "app, batch, records = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert 'own_scale' not in sys.modules\n"
        "from cdc_flower.devices.state import DeviceStates\n"
        "states = [DeviceStates.from_record(np.array([k]), r) for k, r in enumerate(records)]\n"
        "made = [app.handle(batch.select([k]), s)[1] for k, s in enumerate(states)]\n"
        "pickle.dump([s.pool['head.0.bias'][s.in_use[0]] for s in made], open(sys.argv[2], 'wb'))\n"
    )
    paths = [str(tmp_path / "in"), str(tmp_path / "out")]
    folders = [str(Path(own.__file__).parent), *sys.path]
    subprocess.run(
        [sys.executable, "-c", script, *paths],
        check=True,
        env={"PYTHONPATH": ":".join(folders), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    made = np.stack(pickle.loads((tmp_path / "out").read_bytes()))
    np.testing.assert_allclose(made, expected.pool["head.0.bias"][expected.in_use], rtol=1e-6)


def settings(path: str) -> dict[str, str]:
    return {records.DECODERS: path}


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("own_scale:Gone", "decoders: a decoder must be importable .*, got 'own_scale:Gone'"),
        ("no_such_module:Scale", "must be importable .*, got 'no_such_module:Scale'"),
        ("own_scale", "must be importable as module:Class on every device, got 'own_scale'"),
        (":Scale", "must be importable .*, got ':Scale'"),
        ("own_scale:Scale", "own_scale:Scale must be a subclass of Decoder"),
        ("own_scale:Decoder", "own_scale:Decoder must have name, got none"),
        ("own_scale:ScaleDecoder,own_scale:ScaleDecoder", "a name of its own, got 'scale' twice"),
        ("own_scale:ScaleDecoder,own_twice:Twice", "one decoder, got two for 'scale'"),
        ("cdc_flower.devices.decoders.full:FullParameters", "got 'full' twice"),
    ],
)
def test_a_decoder_that_is_not_there_is_refused_at_the_deployment(
    own: Any, path: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_twice.py").write_text(
        "from own_scale import ScaleDecoder\n\nclass Twice(ScaleDecoder):\n    name = 'twice'\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=match):
        decoders_of(settings(path))
    device: DeviceApp = app_of()
    model = {records.MODEL: model_arrays(device)}
    ask = to_devices(records.DEPLOY, EVERYONE, shared=model, config=settings(path))
    with pytest.raises(UserError, match=match):
        device.handle(ask, DeviceStates(EVERYONE))


def local_decoder() -> type[Decoder]:
    class Local(Decoder):
        name, reads = "local", ("local",)

        def decode(self, batch: Any, states: Any, adaptive: Any) -> Received:
            return pytest.fail("it is refused before it decodes")

    return Local


def test_a_class_inside_a_function_cannot_be_deployed() -> None:
    with pytest.raises(UserError, match=r"importable as module:Class .*<locals>\.Local'"):
        paths_of([local_decoder()])


def test_two_decoders_cannot_be_registered_under_one_name() -> None:
    class Other(DECODERS["full"]):  # type: ignore[misc]
        pass

    with pytest.raises(ValueError, match="a name of its own, got 'full', which FullParameters of"):
        register(Other)
    assert register(DECODERS["full"]) is DECODERS["full"]
