"""Each metric of each phase as arithmetic on predicted times. One table; a metric that is not in it is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds, for every row of a group: to the first token of the batch, and between two tokens of a sequence."""

    ttft_s: FloatArray
    itl_s: FloatArray


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the rows of a group ask for: sequences, tokens of each, and beams that an answer is searched with."""

    batch: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    beams: int = 1


def request_s(t: Times, s: Sizes) -> FloatArray:
    """The whole batch: its prefill, which gives the first token, and a step for every other one."""
    return t.ttft_s + np.maximum(s.output_tokens - 1, 0) * t.itl_s


Reader = Callable[[Times, Sizes], FloatArray]

READERS: Mapping[str, Reader] = {
    "ttft_s": lambda t, s: t.ttft_s,
    "tpot_s": lambda t, s: t.itl_s,
    "latency_s": request_s,
    "prompt_tokens_per_s": lambda t, s: s.batch * s.input_tokens / t.ttft_s,
    "decoded_tokens_per_s": lambda t, s: s.batch / t.itl_s,
    "output_tokens_per_s": lambda t, s: s.batch * s.output_tokens / request_s(t, s),
    "total_tokens_per_s": lambda t, s: s.batch * (s.input_tokens + s.output_tokens) / request_s(t, s),
    "samples_per_s": lambda t, s: s.batch / request_s(t, s),
}

# (phase, metric) of a row → reader. Decode rates leave the prefill out, generate and serve rates do not.
ANSWERS: Mapping[tuple[str, str], str] = {
    ("prefill", "ttft_s"): "ttft_s",
    ("prefill", "latency_s"): "ttft_s",
    ("prefill", "prompt_tokens_per_s"): "prompt_tokens_per_s",
    ("decode", "tpot_s"): "tpot_s",
    ("decode", "output_tokens_per_s"): "decoded_tokens_per_s",
    ("generate", "ttft_s"): "ttft_s",
    ("generate", "tpot_s"): "tpot_s",
    ("generate", "latency_s"): "latency_s",
    ("generate", "output_tokens_per_s"): "output_tokens_per_s",
    ("generate", "total_tokens_per_s"): "total_tokens_per_s",
    ("generate", "samples_per_s"): "samples_per_s",
    ("serve", "ttft_s"): "ttft_s",
    ("serve", "tpot_s"): "tpot_s",
    ("serve", "latency_s"): "latency_s",
    ("serve", "output_tokens_per_s"): "output_tokens_per_s",
    ("serve", "total_tokens_per_s"): "total_tokens_per_s",
    ("serve", "samples_per_s"): "samples_per_s",
}

TO_TRAIN, ENERGY = "time_to_train_s", "energy_j_per_sample"
TRAINING = ("tflops_per_device", "mfu", "total_tokens_per_s", "samples_per_s", "step_time_s", TO_TRAIN)
OF_AN_OPERATION = ("busbw", "throughput")  # rates as papers name them
RATES = frozenset(
    {"prompt_tokens_per_s", "output_tokens_per_s", "total_tokens_per_s", "samples_per_s", "tflops_per_device", "mfu"}
).union(OF_AN_OPERATION)


def is_predicted(phase: str, metric: str) -> bool:
    """Whether some model answers a metric of a phase; energy of a sample that of a network of one pass."""
    if phase == "train":
        return metric in TRAINING
    return (phase, metric) in ANSWERS or (phase in ("generate", "serve") and metric == ENERGY)


def is_rate(metric: str) -> bool:
    """True where more is faster."""
    return metric in RATES
