"""The scenarios that speed is measured on: one configuration, points of it, and a thousand different ones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray

MODELS = (
    "llama-3-8b", "llama-2-7b", "llama-2-13b", "llama-3-70b", "mistral-7b",
    "mixtral-8x7b", "qwen2.5-7b", "qwen3-32b", "gemma-7b", "qwen3-30b-a3b",
)  # fmt: skip
MACHINES = (
    "nvidia-h100-sxm-80gb", "nvidia-a100-sxm-40gb", "nvidia-a100-sxm-80gb", "nvidia-h100-pcie-80gb", "nvidia-h200-sxm",
    "nvidia-b200-sxm", "amd-mi300x", "amd-mi325x", "nvidia-l40s",
)  # fmt: skip
DEGREES, PRECISIONS = (1, 2, 4, 8), ("fp16", "int8", "int4")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What changes the code that runs, or the constants it reads; by default the README's, at 16 bits."""

    model: str = MODELS[0]
    machine: str = MACHINES[0]
    tp: int = 1
    precision: str = "fp16"


CONFIGURATIONS = tuple(
    Configuration(*c) for c in itertools.islice(itertools.product(MODELS, MACHINES, DEGREES, PRECISIONS), 1_000)
)


def points(count: int) -> tuple[FloatArray, FloatArray]:
    """(batch, context) of `count` points that no grid holds: 1 to 256 sequences, 64 to 8,192 tokens."""
    draw = np.random.default_rng(0)
    return draw.integers(1, 257, count).astype(float), draw.integers(64, 8193, count).astype(float)
