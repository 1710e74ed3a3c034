"""One operator of a forward pass: what it computes, what it must move, and the shape that decides how well it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from waferline.arrays import Floats
from waferline.elementwise import maximum, where

OpKind = Literal[
    "gemm",  # shape: m, n, k — y[m, n] = x[m, k] · W[k, n]
    "prefill_attention",  # batch, q_len, kv_len, heads, kv_heads, head_dim
    "decode_attention",  # batch, kv_len, heads, kv_heads, head_dim
    "mla_prefill",  # as prefill_attention, head_dim = query/key width, v_head_dim
    "mla_decode",  # batch, kv_len, heads, latent, rope
    "moe",  # tokens, hidden, inner, topk, experts, tp, ep, matrices; load of the busiest rank where somebody says it
    "scan",  # batch, q_len, inner, state — recurrent update of state-space and linear attention
    "conv",  # batch, c_in, c_out, kernel, positions, groups
    "norm",  # elements
    "softmax",  # elements
    "elementwise",  # elements
    "gather",  # elements
    "look_up",  # m, n, k — a product by tables: flops count look-ups at the rate of the arithmetic that they replace
    "collective",  # operation in `name` suffix; shape: bytes, ranks, span (devices of the group that they are part of)
]

# Where an operator runs. host: on the CPU beside the device. copied, streamed: on the device, with weights that the host holds
# and that are copied first, or read in passing, over the link between them (shape: passes). link: a hand-over on that link.
Place = Literal["device", "host", "copied", "streamed", "link"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator on ONE device. Every number broadcasts over scenarios.

    Attributes:
        count: executions in one pass.
        flops: arithmetic of one execution, a multiply-accumulate counted as two.
        weight_bytes, activation_bytes, kv_bytes: memory traffic of one execution, by class, each datum moved once.
        weights, activations, kv: formats of the three classes; the units compute in `activations`' arithmetic.
        shape: the sizes the efficiency models need (see `OpKind`), each broadcastable. `cache_warm` among them says that the
            operator runs over and over alone, weights and KV that fit the cache in it; `narrow`: activations come in its format.
    """

    name: str
    kind: OpKind
    count: Floats
    flops: Floats
    weight_bytes: Floats
    activation_bytes: Floats
    kv_bytes: Floats
    weights: str
    activations: str
    kv: str
    shape: Mapping[str, Floats] = field(default_factory=dict)
    operation: str = ""  # of a collective: all_reduce, all_gather, reduce_scatter, all_to_all, p2p
    place: Place = "device"

    @property
    def bytes(self) -> Floats:
        """Memory traffic of one execution, all classes. A class that moves nothing costs no pass over the scenarios."""
        total: Floats = 0.0
        for part in (self.weight_bytes, self.activation_bytes, self.kv_bytes):
            if type(part) is not float or part:
                total = total + part if type(total) is not float or total else part
        return total

    @property
    def intensity(self) -> Floats:
        """Arithmetic intensity in FLOP per byte; 0 where nothing is computed."""
        return where(self.bytes > 0.0, self.flops / maximum(self.bytes, 1e-300), 0.0)
