"""Stored weights by how they are spread: ends of the model, what tensor parallelism cuts, what expert parallelism cuts."""

from __future__ import annotations

from waferline.workloads.counts import parameter_count
from waferline.workloads.spec import ModelSpec


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
