"""A model as a wafer streams or holds it: kinds of layers, each lowered to the operators that everything else starts from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import UnsupportedError
from waferline.formats import Precision, get_format
from waferline.workloads.lower import lower_decode, lower_prefill
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Attention, Block, FeedForward, MixtureOfExperts, SoftmaxAttention, Transformer

_AROUND = frozenset({"embedding", "stem", "final_norm", "head", "sampling"})  # operators outside the layer stack
_RESIDUAL_COPIES = 2  # the residual stream and its normed copy are alive together


@dataclass(frozen=True, slots=True)
class Layer:
    """`count` equal layers and the operators of ONE of them; the head has no block. Operators broadcast over scenarios."""

    name: str
    count: int
    block: Block | None
    operators: tuple[Operator, ...]

    @property
    def flops(self) -> FloatArray:
        """FLOPs of one layer."""
        return np.asarray(sum(op.count * op.flops for op in self.operators))

    @property
    def weight_bytes(self) -> float:
        """Bytes of one layer's weights as stored. All experts count: which run is known only after the router has."""
        return sum(float(op.count) * _stored_bytes(op) for op in self.operators)

    def operator(self, name: str) -> Operator:
        return next(op for op in self.operators if op.name == name)


def layers(model: Transformer, precision: Precision, *, batch: Any, tokens: Any, decode: bool) -> list[Layer]:
    """The layers of one pass in order of first appearance, equal ones together, then the head (with what is around it).

    `tokens` is the prompt, or the context that a decode step ends.
    Raises: UnsupportedError for models that are not decoders.
    """
    if model.kind != "decoder":
        raise UnsupportedError(f"{model.name} is not a decoder", hint="wafers are modelled for decoders")
    kinds: dict[Block, int] = {}
    for block in model.blocks:
        one = replace(block, count=1)
        kinds[one] = kinds.get(one, 0) + block.count

    def lowered(blocks: tuple[Block, ...]) -> list[Operator]:
        part = replace(model, blocks=blocks)
        if decode:
            return lower_decode(part, batch=batch, context=tokens, precision=precision)
        return lower_prefill(part, batch=batch, prompt=tokens, precision=precision)

    found = []
    for index, (block, count) in enumerate(kinds.items()):
        own = tuple(op for op in lowered((block,)) if op.name not in _AROUND)
        found.append(Layer("layer" if len(kinds) == 1 else f"layer kind {index + 1}", count, block, own))
    return [*found, Layer("head", 1, None, tuple(lowered(())))]


def released(model: Transformer) -> Transformer:
    """The model as the released WaferLLM code builds it: one head as wide as the model, no grouped queries, no output head."""
    mixer = Attention(heads=1, kv_heads=1, head_dim=model.hidden_size)
    blocks = []
    for block in model.blocks:
        ffn = block.ffn
        assert isinstance(ffn, FeedForward | MixtureOfExperts)
        inner = ffn.intermediate if isinstance(ffn, FeedForward) else ffn.intermediate * ffn.experts_per_token
        blocks.append(Block(block.count, mixer, FeedForward(inner)))
    return replace(model, blocks=tuple(blocks), has_head=False, head_classes=0, final_norm=False)


def check_covered(model: Transformer) -> None:
    """Refuse layers that the mesh mapping does not cover (latent attention, state space, cross-attention, latent experts).

    Raises: UnsupportedError, naming the kind of layer.
    """
    if model.kind != "decoder":
        raise UnsupportedError(f"{model.name} is not a decoder", hint="the wafer mapping covers decoder models")
    for block in model.blocks:
        if not isinstance(block.mixer, Attention) or block.cross is not None:
            what = "cross-attention" if block.cross is not None else type(block.mixer).__name__
            raise UnsupportedError(
                f"{model.name} has {what} layers, which the wafer mapping does not cover",
                hint="softmax attention with dense or expert feed-forward parts",
            )
        if not isinstance(block.ffn, FeedForward | MixtureOfExperts) or getattr(block.ffn, "latent", None):
            raise UnsupportedError(f"{model.name} has layers that the wafer mapping does not cover")


def matrix_flops(operators: Iterable[Operator]) -> float:
    """FLOPs of the matrix products alone, which is what streaming their weights has to be paid back with."""
    return float(sum(op.count * op.flops for op in operators if op.kind in ("gemm", "moe")))


def _stored_bytes(op: Operator) -> float:
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
    if isinstance(mixer, SoftmaxAttention):
        widths.append(2.0 * mixer.heads * mixer.head_dim + mixer.kv_elements_per_token)
    if isinstance(block.ffn, FeedForward):
        widths.append(block.ffn.intermediate * (2.0 if block.ffn.gated else 1.0))
    elif isinstance(block.ffn, MixtureOfExperts):
        routed = block.ffn.intermediate * block.ffn.experts_per_token + block.ffn.shared_intermediate
        widths.append(routed * (2.0 if block.ffn.gated else 1.0))
    return max(widths)
