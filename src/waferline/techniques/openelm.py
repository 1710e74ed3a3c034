"""OpenELM's layer-wise scaling: every layer has its own number of heads and its own feed-forward width.

Source: Mehta et al. 2024, arXiv:2404.14619, section 2; the rounding is that of the published configuration class.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_QKV_MULTIPLIERS = (0.5, 1.0)  # of the model width, first to last layer
_FFN_MULTIPLIERS = (0.5, 4.0)
_QUERIES_PER_KV_HEAD = 4
_FFN_DIVISOR = 256
_GATED_PROJECTIONS = 3  # gate, up, down
_KEEP = 0.9  # rounding may not lose more than a tenth of a width


@dataclass(frozen=True, slots=True)
class OpenElm:
    """Width, layers and head width of one size; 32,000 tokens, embedding tied with the head."""

    width: int
    layers: int
    head: int
    vocabulary: int = 32_000


SIZES = {
    "270M": OpenElm(1280, 16, 64),
    "450M": OpenElm(1536, 20, 64),
    "1.1B": OpenElm(2048, 28, 64),
    "3B": OpenElm(3072, 36, 128),
}


def parameters(model: OpenElm, keep: Iterable[int] | None = None) -> int:
    """Parameters of the whole model, or with only the layers in `keep` left (0-based)."""
    kept = range(model.layers) if keep is None else keep
    embedding_and_norm = model.vocabulary * model.width + model.width
    return embedding_and_norm + sum(_layer_parameters(model, i) for i in kept)


def _layer_parameters(m: OpenElm, layer: int) -> int:
    qkv, ffn = (np.linspace(*span, m.layers).round(2)[layer] for span in (_QKV_MULTIPLIERS, _FFN_MULTIPLIERS))
    heads = _rounded(m.width * qkv, m.head * _QUERIES_PER_KV_HEAD) // m.head
    projections = m.width * m.head * (heads + 2 * heads // _QUERIES_PER_KV_HEAD + heads)  # query, key and value, output
    gated = _GATED_PROJECTIONS * m.width * _rounded(ffn * m.width, _FFN_DIVISOR)
    return projections + gated + 2 * m.width + 2 * m.head  # two norms, and one each of queries and keys


def _rounded(value: float, divisor: int) -> int:
    """`value` to the nearest multiple of `divisor`, one step up where that would lose more than a tenth."""
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < _KEEP * value else nearest
