"""A whole model beside llama.cpp: the same random GGUF, decode and prefill, interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.kernels.llama import LlamaCpp, llama_cpp_missing, timed
from waferline.kernels import runner

LEAST_DECODE, LEAST_PREFILL = 1.6, 1.5


@dataclass(frozen=True, slots=True)
class ModelRow:
    """Tokens per second, medians; llama.cpp's are None where it is not installed."""

    threads: int
    prompt: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    peer_prefill_tokens_per_s: float | None
    peer_decode_tokens_per_s: float | None
    decode_bytes_per_s: float


def run_model(path: Path, threads: int, *, prompt: int = 512, output: int = 32, rounds: int = 3) -> ModelRow:
    """Prefill `prompt` random tokens and decode `output` from an empty cache, both engines in turn."""
    ours = runner.load(path, threads=threads, context=1024)
    runner.warm_up(ours, prompt)
    peer = None if llama_cpp_missing() else LlamaCpp(str(path), threads=threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    rng = np.random.default_rng(0)
    prefill: dict[str, list[float]] = {"ours": [], "peer": []}
    decode: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds + 1):  # the first round warms both up
        tokens = rng.integers(300, ours.config.vocabulary, prompt).tolist()
        following = rng.integers(300, ours.config.vocabulary, output).tolist()
        engines: dict[str, tuple[Callable[[], None], Callable[[list[int]], object]]] = {
            "ours": (ours.reset, ours.prefill)
        }
        if peer is not None:
            engines["peer"] = (peer.forget, peer.evaluate)
        for name, (forget, evaluate) in engines.items():
            forget()
            prefill[name].append(timed(clock, lambda e=evaluate, t=tokens: e(t)))  # type: ignore[misc]
            forget()
            step = (lambda t: ours.decode(t[0])) if name == "ours" else evaluate
            decode[name].append(float(np.median([timed(clock, lambda s=step, t=t: s([t])) for t in following])))  # type: ignore[misc]
    if peer is not None:
        peer.close()

    def rate(taken: list[float], count: int) -> float | None:
        return count / float(np.median(taken[1:])) if taken else None

    decoded = rate(decode["ours"], 1) or 0.0
    return ModelRow(
        threads, prompt, rate(prefill["ours"], prompt) or 0.0, decoded, rate(prefill["peer"], prompt), rate(decode["peer"], 1),
        decoded * ours.weights.file_bytes_per_token,
    )  # fmt: skip
