"""Stored weights by how they are spread: ends of the model, what tensor parallelism cuts, what expert parallelism cuts."""

from __future__ import annotations

from waferline.formats import Precision, get_format
from waferline.workloads.counts import parameter_count
from waferline.workloads.spec import ModelSpec, Transformer


def weight_elements(model: ModelSpec) -> dict[str, float]:
    """Elements of `embedding`, `head`, `blocks` and `experts`; a head tied to the embedding is stored once."""
    count = parameter_count(model)
    ends = float(count.embedding + count.head)
    return {
        "embedding": float(count.embedding),
        "head": float(count.head),
        "blocks": float(count.total) - ends - count.experts,
        "experts": float(count.experts),
    }


def wide_elements(model: ModelSpec, parts: set[str]) -> float:
    """Elements of `blocks` that stay in 16 bits: of "attention", "ffn" and "shared_experts"."""
    count = parameter_count(model)
    return float(sum(getattr(count, part) for part in parts & {"attention", "ffn", "shared_experts"}))


def wide_parts(model: Transformer, precision: Precision) -> set[str]:
    """Parts that the checkpoint itself keeps in 16 bits, when it is run in the format it ships in; else none."""
    if model.weight_format is None or not _same_family(model.weight_format, precision.weights):
        return set()
    return set(model.parts_16bit)


def as_shipped(model: Transformer, precision: Precision) -> Precision:
    """`fp8` means block-wise FP8 for a checkpoint that ships block-wise FP8: the same arithmetic, other kernels."""
    shipped = model.weight_format
    if shipped is None or shipped == precision.weights or not _same_family(shipped, precision.weights):
        return precision
    return Precision(shipped, precision.activations, precision.kv, precision.head)


def _same_family(one: str, other: str) -> bool:
    """Formats of about one width multiplied in the same arithmetic (`fp8` and `fp8_block`)."""
    a, b = get_format(one), get_format(other)
    return a.arithmetic == b.arithmetic and round(a.bits) == round(b.bits) and not (a.packed or b.packed)
