"""One operator of a forward pass: what it computes, what it must move, and the shape that decides how well it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from waferline.arrays import FloatArray

OpKind = Literal[
    "gemm",  # shape: m, n, k — y[m, n] = x[m, k] · W[k, n]
    "attention_prefill",  # batch, q_len, kv_len, heads, kv_heads, head_dim
    "attention_decode",  # batch, kv_len, heads, kv_heads, head_dim
    "mla_prefill",  # as attention_prefill, head_dim = query/key width, v_head_dim
    "mla_decode",  # batch, kv_len, heads, latent, rope
    "expert_gemm",  # tokens, hidden, inter, topk, experts, tp, ep, matrices
    "scan",  # batch, q_len, inner, state — recurrent update of state-space and linear attention
    "conv",  # batch, c_in, c_out, kernel, positions, groups
    "norm",  # elements
    "softmax",  # elements
    "elementwise",  # elements
    "gather",  # elements
    "collective",  # operation in `name` suffix; shape: bytes, ranks
    "transfer",  # bytes over a link named in `via`
    "host",  # no shape: time of the machine that drives the device
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator on ONE device. Every number broadcasts over scenarios.

    Attributes:
        count: executions in one pass.
        flops: arithmetic of one execution, a multiply-accumulate counted as two.
        weight_bytes, activation_bytes, kv_bytes: memory traffic of one execution, by class, each datum moved once.
        weights, activations, kv: formats of the three classes; the units compute in `activations`' arithmetic.
        shape: the sizes the efficiency models need (see `OpKind`), each broadcastable.
        via: scope of the link a collective or transfer uses ("scale-up", "scale-out", "host", "io").
    """

    name: str
    kind: OpKind
    count: FloatArray
    flops: FloatArray
    weight_bytes: FloatArray
    activation_bytes: FloatArray
    kv_bytes: FloatArray
    weights: str
    activations: str
    kv: str
    shape: Mapping[str, FloatArray] = field(default_factory=dict)
    via: str = "scale-up"
    operation: str = ""  # of a collective: all_reduce, all_gather, reduce_scatter, all_to_all, p2p

    @property
    def bytes(self) -> FloatArray:
        """Memory traffic of one execution, all classes. A class that moves nothing costs no pass over the scenarios."""
        parts = [x for x in (self.weight_bytes, self.activation_bytes, self.kv_bytes) if x.ndim or x != 0.0]
        return sum(parts[1:], parts[0]) if parts else np.zeros(())

    @property
    def intensity(self) -> FloatArray:
        """Arithmetic intensity in FLOP per byte; 0 where nothing is computed."""
        moved = np.asarray(self.bytes)
        return np.divide(self.flops, moved, out=np.zeros(np.broadcast(self.flops, moved).shape), where=moved > 0)
