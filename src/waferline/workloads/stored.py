"""Bytes of a model's weights: from its files, from the formats that its checkpoint says, or in one format for all."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from waferline.formats import Precision, get_format
from waferline.remember import by_identity
from waferline.workloads.build import Builder
from waferline.workloads.lower import layer
from waferline.workloads.mixers import Pass
from waferline.workloads.operator import Operator
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Block, Transformer
from waferline.workloads.weights import as_shipped, ships, weight_elements

_WIDE_BYTES = 2.0
_ONE_TOKEN = Pass(1.0, 1.0, 1.0, False, Parallel(), 1.0)


def matrices(model: Transformer, block: Block) -> Iterator[tuple[str, float]]:
    """(operator, weights) of every matrix of all layers of `block`, routed experts together."""
    plain = Builder(Precision("bf16", "bf16", "bf16", "bf16"))
    for op in layer(model, block, plain, _ONE_TOKEN):
        elements = float(op.count) * _elements(op)
        if elements:
            yield op.name, elements


def _elements(op: Operator) -> float:
    if op.kind == "gemm":
        return float(op.shape["n"] * op.shape["k"])
    if op.kind == "moe":
        return float(prod(op.shape[key] for key in ("experts", "matrices", "hidden", "inner")))
    return 0.0


@by_identity
def part_bytes(model: Transformer, precision: Precision) -> dict[str, float]:
    """Bytes by part: embedding, head, blocks and towers (tensor parallelism cuts them), experts (expert parallelism does)."""
    if model.weight_bytes_exact is not None and ships(model, precision):
        return dict.fromkeys(weight_elements(model), 0.0) | dict(model.weight_bytes_exact)
    if model.stored is not None and ships(model, precision):
        return _as_stored(model, as_shipped(model, precision))
    body = get_format(precision.weights)
    embedding = body if body.packed or body.bits >= 16 else get_format("bf16")
    tower = body if body.bits >= 16 else get_format("bf16")  # quantised checkpoints leave towers as they are
    per_element = {"embedding": embedding, "head": get_format(precision.head), "tower": tower}
    return {part: n * per_element.get(part, body).bytes_per_element for part, n in weight_elements(model).items()}


def _as_stored(model: Transformer, precision: Precision) -> dict[str, float]:
    """Every matrix in its own format; what is no matrix (norms, biases, convolutions) in 16 bits."""
    assert model.stored is not None
    elements = weight_elements(model)
    parts = {part: n * _WIDE_BYTES for part, n in elements.items()}
    parts["embedding"] = elements["embedding"] * get_format(model.stored.embedding).bytes_per_element
    parts["head"] = elements["head"] * get_format(precision.head).bytes_per_element
    counted, saved = dict.fromkeys(parts, 0.0), dict.fromkeys(parts, 0.0)
    for block in (*model.encoder, *model.blocks):
        own = dict[str, list[tuple[str, float]]]()
        for name, fmt, share in block.formats:
            own.setdefault(name, []).append((fmt, share))
        for name, count in matrices(model, block):
            part = "experts" if name == "moe.experts" else "blocks"
            counted[part] += count
            for fmt, share in own.get(name, [(precision.weights, 1.0)]):
                saved[part] += count * share * (_WIDE_BYTES - get_format(fmt).bytes_per_element)
    # Layers that share their weights run them more often than they are stored.
    return {part: n - saved[part] * min(1.0, elements[part] / max(counted[part], 1.0)) for part, n in parts.items()}
