"""Makes editor and edited head three times: ours, written by hand, and as bare matrix products.

By hand is what a researcher would write for one experiment: no names, no options, PyTorch's kernels
in the order of the equations. The products are those of the equations, by the same kernels, on
numbers that no activation has touched.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import embedding, softplus

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models.generated_layers import generated_head
from cdc_flower.models.layers import Parameters
from cdc_flower.models.sequence_feature import with_table
from cdc_flower.strategies.persona import Persona
from cdc_flower.strategies.persona.group import Group

#: Items of all devices -> their layer embeddings; those of a chunk and inputs of its heads ->
#: outputs.
Embed = Callable[[Tensor], list[Tensor]]
Apply = Callable[[list[Tensor], Tensor], Tensor]
#: (inputs, outputs) of each layer of a head.
Sizes = Sequence[tuple[int, int]]
NUM_SEQUENCES = 8
NUM_CANDIDATES = 100
#: Times that a function runs through all devices where that takes milliseconds.
PASSES = 20
#: Numbers of the inputs or layers of a head at a time, so that they stay in the cache. Embeddings
#: are made all at once.
NUMBERS_PER_CHUNK = 1_000_000
WIDTH = 32
#: Items of a history.
LENGTH = 10


def editor_and_head(persona: Persona, num_devices: int) -> dict[str, Callable[[], object]]:
    """Makes the work from the items of all devices to the outputs of their heads, and ``table``.

    A head has 8 rows, one a sequence, or where it sees candidates 800. Each function returns the
    outputs of the last chunk of devices; those of small heads do so ``PASSES`` times, ``table``
    too.

    Args:
        persona: With one prototype, at width 32.
        num_devices: How many.

    Raises:
        ValueError: If by hand something else comes out.
    """
    editor = persona.editor
    model = persona.cloud.model
    static = persona.parameters
    tabulated = model.tabulate(static)
    own = with_table(persona.global_editor, model, tabulated)
    sizes = model.head_sizes
    draw = torch_generator(0, "bare")
    history = torch.randint(1, model.num_items + 1, (num_devices, LENGTH), generator=draw)
    rows = NUM_SEQUENCES * (NUM_CANDIDATES if model.head_sees_candidates else 1)
    x = torch.randn(num_devices, rows, model.head_sizes[0][0], generator=draw)
    size = max(1, NUMBERS_PER_CHUNK // max(x[0].numel(), model.num_adaptive))
    passes = 1 if model.head_sees_candidates else PASSES
    chunks = [slice(start, start + size) for start in range(0, num_devices, size)]
    group = Group(editor, own, persona.bank, 0)

    def embeddings(ids: Tensor) -> list[Tensor]:
        found = group.embeddings(editor.feature(own, tabulated, ids))
        if not group.is_free(found):
            raise ValueError("clipping must reach no entry, or ours is another function")
        return found

    def head(e: list[Tensor], inputs: Tensor) -> Tensor:
        return model.head(group.layers(e), inputs)

    def looped(embed: Embed, apply: Apply) -> Callable[[], Tensor]:
        @torch.no_grad()
        def run() -> Tensor:
            for _ in range(passes):
                whole = embed(history)
                y = [apply([e[chunk] for e in whole], x[chunk]) for chunk in chunks][-1]
            return y

        return run

    ours = looped(embeddings, head)
    by_hand = looped(
        partial(_by_hand, own, static, len(sizes)), partial(_head_by_hand, own, static, sizes)
    )
    apart = (ours() - by_hand()).abs().max()
    if apart > 1e-4:
        raise ValueError(f"by hand must be the same as ours, got {apart:g} between them")
    return {
        "ours": ours,
        "by hand": by_hand,
        "products": looped(
            partial(_products, own, static, len(sizes)), partial(_head_products, own, sizes)
        ),
        "table": lambda: [
            with_table(persona.global_editor, model, model.tabulate(static)) for _ in range(passes)
        ],
    }


def _product(own: Parameters, x: Tensor, name: str) -> Tensor:
    return torch.addmm(own[f"{name}.bias"], x, own[f"{name}.weight"])


def _step(own: Parameters, gate: Tensor, h: Tensor, name: str) -> Tensor:
    hidden = _product(own, h, f"{name}.hidden")
    r, z = (gate[:, : 2 * WIDTH] + hidden[:, : 2 * WIDTH]).sigmoid_().chunk(2, -1)
    return torch.lerp(torch.addcmul(gate[:, 2 * WIDTH :], r, hidden[:, 2 * WIDTH :]).tanh_(), h, z)


def _by_hand(own: Parameters, static: Parameters, num_layers: int, ids: Tensor) -> list[Tensor]:
    """Makes layer embeddings of full histories."""
    items = embedding(ids, static["embedding"])
    if "position" in static:
        items = items + static["position"]
    states = _product(static, items.view(-1, WIDTH), "sequence").tanh_()
    gates = _product(own, states, "feature.input").view(len(ids), LENGTH, -1)
    h = torch.zeros(len(ids), WIDTH)
    for gate in gates.unbind(1):
        h = _step(own, gate, h, "feature")
    z = _product(own, _product(own, h, "feature.0").tanh_(), "feature.1")
    h = torch.zeros(len(ids), WIDTH)
    embeddings = []
    for layer in range(num_layers):
        gate = _product(own, _product(own, z, f"transfer.{layer}.input"), "transfer.gru.input")
        h = _step(own, gate, h, "transfer.gru")
        hidden = _product(own, h, "transfer.output.0").tanh_()
        embeddings.append(_product(own, hidden, "transfer.output.1").tanh_())
    return embeddings


def _head_by_hand(
    own: Parameters, static: Parameters, sizes: Sizes, e: list[Tensor], y: Tensor
) -> Tensor:
    """Computes the outputs of the edited heads."""
    for layer, (num_inputs, num_outputs) in enumerate(sizes):
        flat = _product(own, e[layer], f"decoder.{layer}").clamp_(-1.0, 1.0)
        weight = (
            flat[:, :-num_outputs].view(-1, num_inputs, num_outputs)
            + static[f"head.{layer}.weight"]
        )
        y = y.tanh_() if layer else y
        y = torch.baddbmm(
            (flat[:, -num_outputs:] + static[f"head.{layer}.bias"])[:, None], y, weight
        )
    return y


def _products(own: Parameters, static: Parameters, num_layers: int, ids: Tensor) -> list[Tensor]:
    states = _product(static, embedding(ids, static["embedding"]).view(-1, WIDTH), "sequence")
    gates = _product(own, states, "feature.input").view(len(ids), LENGTH, -1)
    h = gates[:, 0, :WIDTH]
    for _ in range(LENGTH):
        _product(own, h, "feature.hidden")
    z, embeddings = _product(own, _product(own, h, "feature.0"), "feature.1"), []
    for layer in range(num_layers):
        h = _product(own, z, f"transfer.{layer}.input")
        _product(own, h, "transfer.gru.input")
        _product(own, h, "transfer.gru.hidden")
        embeddings.append(_product(own, _product(own, h, "transfer.output.0"), "transfer.output.1"))
    return embeddings


def _head_products(own: Parameters, sizes: Sizes, e: list[Tensor], y: Tensor) -> Tensor:
    for layer, (num_inputs, num_outputs) in enumerate(sizes):
        flat = _product(own, e[layer], f"decoder.{layer}")
        weight = flat[:, :-num_outputs].view(-1, num_inputs, num_outputs)
        y = torch.baddbmm(flat[:, None, -num_outputs:], y, weight)
    return y


def training_heads(sizes: Sizes, batch_size: int, num_rows: int) -> dict[str, Callable[[], None]]:
    """Makes the work of one forward and backward pass through generated heads.

    Ours makes layers in chunks, ``at once`` those of the whole batch.

    Args:
        sizes: (inputs, outputs) of each layer.
        batch_size: Examples, each with layers of its own.
        num_rows: Rows of an example.
    """
    draw = torch_generator(0, "training")
    numbers = [(num_inputs + 1) * num_outputs for num_inputs, num_outputs in sizes]
    x = torch.randn(batch_size, num_rows, sizes[0][0], generator=draw)
    bases = [0.1 * torch.randn(a + 1, b, generator=draw) for a, b in sizes]
    embeddings = [
        torch.randn(batch_size, WIDTH, generator=draw).tanh_().requires_grad_() for _ in sizes
    ]
    weights = [(0.01 * torch.randn(WIDTH, n, generator=draw)).requires_grad_() for n in numbers]
    biases = [torch.zeros(n, requires_grad=True) for n in numbers]
    leaves = [*embeddings, *weights, *biases]

    def ours() -> Tensor:
        return generated_head(x, bases, embeddings, list(zip(weights, biases, strict=True)), 1.0)

    def at_once() -> Tensor:
        y = x
        for layer, (a, b) in enumerate(sizes):
            flat = torch.addmm(biases[layer], embeddings[layer], weights[layer]).clamp(-1.0, 1.0)
            k = bases[layer] + flat.view(-1, a + 1, b)
            y = torch.baddbmm(k[:, -1:], torch.tanh(y) if layer else y, k[:, :-1])
        return y

    def trained(head: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            torch.autograd.grad(softplus(head()).mean(), leaves)

        return run

    return {"ours": trained(ours), "at once": trained(at_once)}
