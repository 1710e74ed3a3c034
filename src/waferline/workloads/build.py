"""Building operators: the one place where sizes and formats become FLOPs and bytes.

Counting rules: a multiply-accumulate is two FLOPs; every datum moves once; activations move in the width of their
format but never below 16 bits between operators, because engines keep the residual stream in 16 bits and quantise at
the door of a matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from waferline.arrays import Floats
from waferline.elementwise import maximum, minimum, number
from waferline.formats import Precision, get_format
from waferline.workloads.operator import Operator, OpKind

_RESIDUAL_BYTES = 2.0  # the residual stream is never narrower than 16 bits
_SCORE_FLOPS = 4.0  # per query-key pair and head-dim element: QKᵀ and PV, two FLOPs each (Williams 2009 counting)


@dataclass(frozen=True, slots=True)
class Builder:
    """Formats of the pass, and how many bytes one element of each class takes.

    narrow: activations stay in their format between operators, as in programs that are calibrated and compiled ahead.
    """

    precision: Precision
    narrow: bool = False

    @property
    def residual_bytes(self) -> float:
        """Bytes of one activation element between operators."""
        return (
            self.activation_bytes
            if self.narrow
            else max(_RESIDUAL_BYTES, get_format(self.precision.activations).bytes_per_element)
        )

    @property
    def wide(self) -> str:
        """The activation format where the operator needs at least 16 bits."""
        acts = self.precision.activations
        return acts if get_format(acts).bits >= 16 else "bf16"

    @property
    def activation_bytes(self) -> float:
        return get_format(self.precision.activations).bytes_per_element

    @property
    def weight_bytes(self) -> float:
        return get_format(self.precision.weights).bytes_per_element

    @property
    def kv_bytes(self) -> float:
        return get_format(self.precision.kv).bytes_per_element

    def operator(
        self,
        name: str,
        kind: OpKind,
        *,
        count: Any = 1.0,
        flops: Any = 0.0,
        weight_bytes: Any = 0.0,
        activation_bytes: Any = 0.0,
        kv_bytes: Any = 0.0,
        shape: Mapping[str, Any] | None = None,
        weights: str | None = None,
        activations: str | None = None,
        operation: str = "",
    ) -> Operator:
        p = self.precision
        return Operator(
            name=name,
            kind=kind,
            count=number(count),
            flops=number(flops),
            weight_bytes=number(weight_bytes),
            activation_bytes=number(activation_bytes),
            kv_bytes=number(kv_bytes),
            weights=p.weights if weights is None else weights,
            activations=p.activations if activations is None else activations,
            kv=p.kv,
            shape={key: number(value) for key, value in (shape or {}).items()},
            operation=operation,
        )

    def gemm(self, name: str, m: Any, n: Any, k: Any, *, count: Any = 1.0, weights: str | None = None) -> Operator:
        """y[m, n] = x[m, k] · W[k, n], one matrix on one device."""
        fmt = self.precision.weights if weights is None else weights
        # A 16-bit head or router computes in 16 bits, whatever the body does.
        acts = (
            self.precision.activations
            if fmt == self.precision.weights
            else _activations_for(fmt, self.precision.activations)
        )
        m, n, k = number(m), number(n), number(k)
        return self.operator(
            name,
            "gemm",
            count=count,
            flops=2.0 * m * n * k,
            weight_bytes=n * k * get_format(fmt).bytes_per_element,
            activation_bytes=(m * k + m * n) * self.residual_bytes,
            shape={"m": m, "n": n, "k": k} | ({"narrow": 1.0} if self.narrow else {}),
            weights=fmt,
            activations=acts,
        )

    def streaming(
        self, name: str, kind: OpKind, elements: Any, *, passes: float, count: Any = 1.0, flops_each: float = 1.0
    ) -> Operator:
        """An operator bound by memory: `passes` reads or writes of `elements` activations."""
        elements = number(elements)
        return self.operator(
            name,
            kind,
            count=count,
            flops=elements * flops_each,
            activation_bytes=elements * passes * self.residual_bytes,
            shape={"elements": elements},
        )

    def attention(
        self,
        name: str,
        kind: OpKind,
        *,
        batch: Any,
        q_len: Any,
        kv_len: Any,
        pairs: Any,
        kv_read: Any,
        heads: Any,
        kv_heads: Any,
        head_dim: Any,
        v_head_dim: Any,
        kv_elements: Any,
        count: Any = 1.0,
    ) -> Operator:
        """Softmax attention of `heads` query heads over `pairs` query-key pairs per sequence and head.

        `kv_read` is the number of cached tokens read per sequence and `kv_elements` their elements per token here.
        """
        width = (head_dim + v_head_dim) / 2
        return self.operator(
            name,
            kind,
            count=count,
            flops=_SCORE_FLOPS * batch * heads * width * pairs,
            activation_bytes=2.0 * batch * q_len * heads * width * self.residual_bytes,
            kv_bytes=batch * kv_read * kv_elements * self.kv_bytes,
            shape={
                "batch": batch,
                "q_len": q_len,
                "kv_len": kv_len,
                "heads": heads,
                "kv_heads": kv_heads,
                "head_dim": head_dim,
            },
            activations=_attention_arithmetic(self.precision),
        )

    def collective(self, operation: str, name: str, payload_bytes: Any, ranks: Any, *, count: Any = 1.0) -> Operator:
        """A collective over `ranks` devices; `payload_bytes` is the full buffer of one rank."""
        return self.operator(
            name,
            "collective",
            count=count,
            shape={"bytes": payload_bytes, "ranks": ranks},
            operation=operation,
        )


def _activations_for(weights: str, activations: str) -> str:
    """Activation format of a matrix kept in `weights`: the body's, unless the matrix is itself a wide float."""
    return weights if get_format(weights).bits >= 16 else activations


def _attention_arithmetic(precision: Precision) -> str:
    """Scores are computed in 16 bits unless both activations and KV are 8-bit floats (FlashAttention-3 FP8 mode)."""
    acts = precision.activations
    if get_format(precision.kv).arithmetic == "fp8" and get_format(acts).arithmetic in ("fp8", "fp4"):
        return "fp8"
    return acts if get_format(acts).bits >= 16 else "bf16"


def causal_pairs(q_len: Any, kv_len: Any, window: Any) -> Floats:
    """Query-key pairs of one sequence and head: `q_len` new tokens that end a context of `kv_len`, causally masked.

    With a sliding window each query sees at most `window` keys.
    """
    q, length = number(q_len), number(kv_len)
    full = q * (length - q) + q * (q + 1) / 2
    if window is None:
        return full
    first = length - q  # keys before the first query
    ramp = minimum(maximum(window - first, 0.0), q)  # queries that still see everything before them
    return ramp * first + ramp * (ramp + 1) / 2 + (q - ramp) * window


def cached_tokens(q_len: Any, kv_len: Any, window: Any) -> Floats:
    """Tokens of KV cache that the queries of one sequence read."""
    return number(kv_len) if window is None else minimum(number(kv_len), number(q_len) - 1.0 + window)
