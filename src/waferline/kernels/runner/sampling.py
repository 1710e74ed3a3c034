"""Choosing the next token from logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from waferline.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0 is greedy (lowest token number among equals). Then the `top_k` largest are kept (0: all), of these
    the fewest whose probability reaches `top_p`, and one is drawn with a generator started from `seed`."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = not (0 <= self.temperature < np.inf), self.top_k < 0, not (0 < self.top_p <= 1), self.seed < 0
        names = ("temperature", "top_k", "top_p", "seed")
        for name, is_wrong in zip(names, wrong, strict=True):
            if is_wrong:
                raise InvalidInputError(f"{name} is {getattr(self, name)}", where="sampling")


def probabilities(logits: np.ndarray, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """Candidate tokens, most likely first, and their probabilities (f64, summing to 1)."""
    order = np.argsort(-logits, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
    behind = logits[order].astype(np.float64) - float(logits[order[0]])  # before dividing: 0 stays 0 at any temperature
    with np.errstate(over="ignore"):
        p = np.exp(behind / sampling.temperature)
    p /= p.sum()
    if sampling.top_p < 1:
        keep = int(np.searchsorted(np.cumsum(p), sampling.top_p)) + 1
        order, p = order[:keep], p[:keep] / p[:keep].sum()
    return order, p


def choose_token(logits: np.ndarray, sampling: Sampling, generator: np.random.Generator) -> int:
    """One token number. Raises `InvalidInputError` when the logits hold a NaN: there is nothing honest to choose."""
    if np.isnan(logits).any():
        raise InvalidInputError("the logits hold NaN", where="sampling", hint="the weights or the KV cache are damaged")
    if sampling.temperature == 0:
        return int(np.argmax(logits))
    tokens, p = probabilities(logits, sampling)
    return int(generator.choice(tokens, p=p))
