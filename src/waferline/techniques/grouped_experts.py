"""Mixture of grouped experts: each device's group gives the same number of experts to every token.

Plain top-k lets devices receive unequal numbers of tokens, and a step lasts as long as its fullest device. Source: Pangu
Pro MoE, arXiv:2505.21411v2, section 3: softmax over all experts, then the best K/M inside each of M groups.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from waferline.arrays import FloatArray, IntArray

Router = Callable[[FloatArray], FloatArray]


def top_k_gates(logits: FloatArray, k: int) -> FloatArray:
    """Gates (tokens, experts) of the k most likely experts of each token; 0 for the others."""
    return grouped_gates(logits, k, groups=1)


def grouped_gates(logits: FloatArray, k: int, groups: int) -> FloatArray:
    """Gates (tokens, experts) of the k / groups most likely experts inside every group of neighbours."""
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    by_group = shares.reshape(len(shares), groups, -1)
    chosen = np.argpartition(-by_group, k // groups - 1, axis=-1)[..., : k // groups]
    gates = np.zeros_like(by_group)
    np.put_along_axis(gates, chosen, np.take_along_axis(by_group, chosen, -1), -1)
    return np.asarray(gates.reshape(shares.shape))


def device_tokens(gates: FloatArray, devices: int) -> IntArray:
    """Expert-tokens that each device computes; neighbouring experts share a device."""
    return np.asarray((gates > 0).reshape(len(gates), devices, -1).sum(axis=(0, 2)))


def imbalance_score(gates: FloatArray, devices: int) -> float:
    """(fullest - emptiest device) over the number of tokens."""
    tokens = device_tokens(gates, devices)
    return float(tokens.max() - tokens.min()) / len(gates)


def step_factor(gates: FloatArray, devices: int) -> float:
    """How much longer a step lasts than with perfect balance: fullest over mean device."""
    tokens = device_tokens(gates, devices)
    return float(tokens.max() / tokens.mean())


def monte_carlo(
    router: Router, score: Callable[[FloatArray], float], *, tokens: int, experts: int, trials: int, seed: int = 0
) -> FloatArray:
    """`score` of the gates of `trials` batches with random hidden states through one random router matrix."""
    rng = np.random.default_rng(seed)
    width = experts // 2
    weights = rng.standard_normal((width, experts))
    return np.array([score(router(rng.standard_normal((tokens, width)) @ weights)) for _ in range(trials)])
