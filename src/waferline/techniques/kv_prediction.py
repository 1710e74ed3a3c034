"""KV Prediction: a small auxiliary model reads the prompt, linear maps turn its KV cache into that of the base model.

The base model then runs only the last prompt token. Source: Horton et al. 2024, arXiv:2410.08391, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.techniques.openelm import SIZES, parameters
from waferline.techniques.small_decoder import Cache, SmallDecoder

_FLOPS_PER_PARAMETER = 2.0  # one multiply-add a token


def prefill_flops(prompt_tokens: npt.ArrayLike, base: float, auxiliary: float, predictor: float = 0.0) -> FloatArray:
    """FLOPs to the first token: the auxiliary model and the predictor on every token, the base model on one.

    base, auxiliary, predictor: parameters used by a token. Broadcasts over `prompt_tokens`.
    """
    tokens = np.asarray(prompt_tokens, dtype=np.float64)
    return _FLOPS_PER_PARAMETER * (tokens * (auxiliary + predictor) + base)


def kept_layers(layers: int, share: float) -> list[int]:
    """The layers that a layer-pruned auxiliary model keeps: three of four, every second, or every fourth."""
    rules = {0.75: lambda i: i % 4 != 3, 0.5: lambda i: i % 2 == 0, 0.25: lambda i: i % 4 == 0}
    return [i for i in range(layers) if rules[share](i)]


def flops_ratio(base: str, auxiliary: str | float) -> float:
    """FLOPs of the base over those of the auxiliary for a long prompt; `auxiliary` is a size or a kept share of layers."""
    model = SIZES[base]
    if isinstance(auxiliary, str):
        return parameters(model) / parameters(SIZES[auxiliary])
    return parameters(model) / parameters(model, kept_layers(model.layers, auxiliary))


def predict_cache(auxiliary: Cache, maps: Sequence[tuple[FloatArray, FloatArray]], source: Sequence[int]) -> Cache:
    """The base model's cache: layer i is layer `source[i]` of the auxiliary through its two maps (keys, values)."""
    return [(auxiliary[j][0] @ keys, auxiliary[j][1] @ values) for j, (keys, values) in zip(source, maps, strict=True)]


def first_token(
    base: SmallDecoder,
    auxiliary: SmallDecoder,
    maps: Sequence[tuple[FloatArray, FloatArray]],
    source: Sequence[int],
    prompt: FloatArray,
) -> FloatArray:
    """The base model's last hidden state (1, width) when only the last token of `prompt` (tokens, width) runs on it."""
    _, cache = auxiliary.run(prompt[:-1])
    return base.run(prompt[-1:], predict_cache(cache, maps, source))[0]


def leave_one_out(auxiliary_s: FloatArray, total_s: FloatArray) -> FloatArray:
    """Each total predicted as its auxiliary time plus the mean overhead of all the others."""
    overhead = total_s - auxiliary_s
    others = (overhead.sum() - overhead) / (len(overhead) - 1)
    return np.asarray(auxiliary_s + others)
