"""A model as a wafer streams or holds it: layer by layer, with the bytes that must move and the FLOPs they serve."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import UnsupportedError
from waferline.formats import Precision, get_format
from waferline.workloads.lower import lower_decode, lower_prefill
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Attention, Block, FeedForward, LatentAttention, MixtureOfExperts, Transformer

_AROUND = frozenset({"embedding", "stem", "final_norm", "head", "sampling"})  # operators outside the layer stack
_RESIDUAL_COPIES = 2  # the residual stream and its normed copy are alive together


@dataclass(frozen=True, slots=True)
class StreamedLayer:
    """`count` equal layers of one pass: bytes of one layer's weights, FLOPs of one layer (array over scenarios).

    `token_flops` is what the matrices alone cost per token, which is what streaming them has to be paid back with.
    """

    name: str
    count: float
    weight_bytes: float
    flops: FloatArray
    token_flops: float


def streamed_layers(
    model: Transformer, precision: Precision, *, batch: Any, tokens: Any, decode: bool
) -> list[StreamedLayer]:
    """The layers of one forward pass in the order they are streamed, equal ones together, then the head.

    All experts of a layer are streamed: which ones the tokens choose is known only after the router has run.
    Raises: UnsupportedError for models that are not decoders.
    """
    if model.kind != "decoder":
        raise UnsupportedError(f"{model.name} is not a decoder", hint="weight streaming is modelled for decoders")
    groups: dict[Block, int] = {}
    for block in model.blocks:
        one = replace(block, count=1)
        groups[one] = groups.get(one, 0) + block.count
    layers = []
    for index, (block, count) in enumerate(groups.items()):
        operators = _lower(replace(model, blocks=(block,)), precision, batch, tokens, decode)
        own = [op for op in operators if op.name not in _AROUND]
        name = "layer" if len(groups) == 1 else f"layer kind {index + 1}"
        each = _flops(op for op in _lower(replace(model, blocks=(block,)), precision, 1, 1, decode) if _is_matrix(op))
        layers.append(StreamedLayer(name, float(count), _weights(own), _flops(own), float(each)))
    head = [op for op in _lower(replace(model, blocks=()), precision, batch, tokens, decode) if op.name in _AROUND]
    layers.append(StreamedLayer("head", 1.0, _weights(op for op in head if op.name == "head"), _flops(head), 0.0))
    return layers


def _is_matrix(op: Operator) -> bool:
    return op.name not in _AROUND and op.kind in ("gemm", "moe")


def _lower(model: Transformer, precision: Precision, batch: Any, tokens: Any, decode: bool) -> list[Operator]:
    if decode:
        return lower_decode(model, batch=batch, context=tokens, precision=precision)
    return lower_prefill(model, batch=batch, prompt=tokens, precision=precision)


def _flops(operators: Iterable[Operator]) -> FloatArray:
    total: FloatArray = np.zeros(())
    for op in operators:
        total = total + op.count * op.flops
    return total


def _weights(operators: Iterable[Operator]) -> float:
    return sum(float(op.count) * _stored_bytes(op) for op in operators)


def _stored_bytes(op: Operator) -> float:
    """Bytes of an operator's weights as stored; of routed experts all of them, not those a batch touches."""
    if op.kind != "moe":
        return float(np.max(op.weight_bytes))
    s = op.shape
    each = get_format(op.weights).bytes_per_element
    return float(np.max(s["experts"] * s["matrices"] * s["hidden"] * s["inner"])) * each


def live_elements_per_token(model: Transformer) -> float:
    """Activation elements per token alive at once in a forward pass: residual, its copy, the widest inner part."""
    return _RESIDUAL_COPIES * model.hidden_size + max((_inner(block) for block in model.blocks), default=0)


def _inner(block: Block) -> float:
    """Widest set of intermediate activations of one token: attention's, or the feed-forward's inner width."""
    widths: list[float] = [0.0]
    mixer = block.mixer
    if isinstance(mixer, Attention | LatentAttention):
        widths.append(2.0 * mixer.heads * mixer.head_dim + mixer.kv_elements_per_token)
    if isinstance(block.ffn, FeedForward):
        widths.append(block.ffn.intermediate * (2.0 if block.ffn.gated else 1.0))
    elif isinstance(block.ffn, MixtureOfExperts):
        routed = block.ffn.intermediate * block.ffn.experts_per_token + block.ffn.shared_intermediate
        widths.append(routed * (2.0 if block.ffn.gated else 1.0))
    return max(widths)


def widest_layer_bytes(layers: Sequence[StreamedLayer]) -> float:
    return max(layer.weight_bytes for layer in layers)
