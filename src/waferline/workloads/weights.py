"""Stored weights by how they are spread, and whether a precision means the formats that the checkpoint ships in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from waferline.errors import UnsupportedError
from waferline.formats import Precision, get_format
from waferline.workloads.counts import parameter_count
from waferline.workloads.spec import ModelSpec, Transformer

WIDE_BITS = 16.0


def weight_elements(model: ModelSpec) -> dict[str, float]:
    """Elements of `embedding`, `head`, `blocks`, `experts` and `tower`; a head tied to the embedding is stored once."""
    count = parameter_count(model)
    ends = float(count.embedding + count.head)
    return {
        "embedding": float(count.embedding),
        "head": float(count.head),
        "blocks": float(count.total) - ends - count.experts,
        "experts": float(count.experts),
        "tower": float(count.tower),
    }


def ships(model: Transformer, precision: Precision) -> bool:
    """Whether the weights asked for are those that the checkpoint holds: `fp8` is block-wise FP8, `int4` any group size."""
    if model.weight_format is None:
        return get_format(precision.weights).bits == WIDE_BITS
    return get_format(model.weight_format).family == get_format(precision.weights).family


def as_shipped(model: Transformer, precision: Precision, arithmetic: Callable[[str], str] | None = None) -> Precision:
    """`precision` with the checkpoint's own weights and head, where it means those; else unchanged.

    `arithmetic` (`Device.arithmetic`) says which activations the machine multiplies in; without it those of weights beside
    the main ones are what the checkpoint says when the body's activations are narrow, and 16 bits else.
    """
    shipped = model.weight_format
    if shipped is None or not ships(model, precision):
        return precision
    stored, head = model.stored, precision.head
    if stored is None:
        return replace(precision, weights=shipped)
    if head in {_usual_head(precision.weights), _usual_head(shipped)}:
        head = _wide(precision) if get_format(stored.head).bits == WIDE_BITS else stored.head
    mixed = precision.mixed or tuple(
        (weights, activations if _computes(activations, precision, arithmetic) else _wide(precision))
        for weights, activations in stored.activations
        if weights != shipped
    )
    return replace(precision, weights=shipped, head=head, mixed=mixed)


def _usual_head(weights: str) -> str:
    return get_format(weights).head or weights


def _wide(precision: Precision) -> str:
    """The 16-bit format that the pass uses where it must."""
    return precision.activations if get_format(precision.activations).bits >= WIDE_BITS else "bf16"


def _computes(activations: str, precision: Precision, arithmetic: Callable[[str], str] | None) -> bool:
    if arithmetic is None:
        return get_format(precision.activations).bits < WIDE_BITS
    try:
        arithmetic(get_format(activations).arithmetic)
    except UnsupportedError:
        return False
    return True
