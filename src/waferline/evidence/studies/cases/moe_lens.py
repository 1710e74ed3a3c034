"""MoE-Lens: how fast a mixture of experts runs when its weights and KV cache live in CPU memory.

Batched mixture-of-experts serving from CPU memory: weights stream over the host link, attention runs on the CPU.

Throughput is limited by how many tokens share one sweep over the weights, and that by the KV cache that CPU memory
holds. Source: MoE-Lens, arXiv:2504.09345, equations 1 to 4; the iteration rule is ours (its equations 8 to 14 unread).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, bound, identity, own
from waferline.evidence.studies.tolerance import AIM, absolute, at_most, between, printed, relative


def saturating_tokens(peak_flops: float, link_bytes_per_s: float, experts: int, chosen: int) -> float:
    """Tokens in a sweep above which the GPU and not the link decides (equation 2), for 16-bit weights."""
    return peak_flops / link_bytes_per_s * experts / chosen


def memory_efficiency(prompt: float, output: float) -> float:
    """Tokens processed per token of KV held, per iteration (equation 3)."""
    return 2.0 * (prompt + output) / ((2.0 * prompt + output) * output)


@dataclass(frozen=True, slots=True)
class Offload:
    """A machine with a model: one sweep over the weights, the GPU's limit, and the KV tokens that CPU memory holds."""

    sweep_s: float
    gpu_tokens_per_s: float
    kv_tokens: float

    def bound_tokens_per_s(self, prompt: float, output: float) -> float:
        """Prompt and generated tokens per second that no schedule exceeds (equation 4)."""
        return min(memory_efficiency(prompt, output) * self.kv_tokens / self.sweep_s, self.gpu_tokens_per_s)

    def is_gpu_bound(self, prompt: float, output: float) -> bool:
        return memory_efficiency(prompt, output) * self.kv_tokens / self.sweep_s >= self.gpu_tokens_per_s


def admitted_per_iteration(machine: Offload, prompt: int, output: int) -> float:
    """Requests that can join every iteration for ever: their KV cache, half generated on average, fills the memory."""
    return 2.0 * machine.kv_tokens / ((2.0 * prompt + output) * output)


def simulate_tokens_per_s(machine: Offload, prompt: int, output: int, requests: int) -> float:
    """Tokens per second of `requests` alike requests, iteration by iteration, filling and draining included.

    An iteration admits the steady rate of prompts, gives every running sequence a token, and lasts as long as a sweep or
    as the GPU needs. Raises: InvalidInputError where memory does not hold one request.
    """
    rate = min(
        admitted_per_iteration(machine, prompt, output), machine.gpu_tokens_per_s * machine.sweep_s / (prompt + output)
    )
    if machine.kv_tokens < prompt + output:
        raise InvalidInputError(f"{prompt + output} tokens of one request exceed the {machine.kv_tokens:.0f} that fit")
    waiting, credit, time_s = requests, 0.0, 0.0
    running: deque[int] = deque()  # how many requests were admitted in each of the last `output` iterations
    while waiting or any(running):
        credit += rate
        new = min(waiting, int(credit))
        credit, waiting = credit - new, waiting - new
        running.append(new)
        if len(running) > output:
            running.popleft()
        tokens = new * prompt + sum(running)
        time_s += max(machine.sweep_s, tokens / machine.gpu_tokens_per_s)
    return requests * (prompt + output) / time_s


def finite_share(machine: Offload, prompt: int, output: int, requests: float) -> float:
    """Share of the bound that a finite number of requests reaches: filling and draining cost `output` iterations."""
    iterations = requests / admitted_per_iteration(machine, prompt, output)
    return float(np.divide(iterations, iterations + output))


_KILO = 1e3
_PROMPT = 98
_CUT = absolute(0.0, "exact, cut off as the source does")
_SIMULATOR = 0.02  # simulator against closed form


def compute(data: Facts) -> Iterator[Check]:
    for row in data["saturation"]:
        yield from _saturation(row, data)
    yield from _regimes(data)
    yield from _simulated(data)
    why = "the printed tables of absolute throughput were not at hand"
    yield Check("throughput against MoE-Lightning", "×", 4.6, None, why=why)


def _saturation(row: Facts, d: Facts) -> Iterator[Check]:
    tokens = saturating_tokens(row["peak_flops"], d["link_bytes_per_s"], d["experts"], d["chosen"])
    mixed = tokens * d["unit_mix"]
    yield identity(
        f"{row['gpu']}, tokens that saturate", "k", float(row["tokens"]), mixed / _KILO, printed(row["tokens"])
    )
    gigabytes = int(mixed * 256 * d["kv_bytes_per_token"] / (1000 * 2**20))
    yield identity(f"{row['gpu']}, KV cache for them, 256 tokens", "1000 MiB", row["kv_256"], gigabytes, _CUT)
    yield identity(f"{row['gpu']}, KV cache for them, 512 tokens", "1000 MiB", row["kv_512"], 2 * gigabytes, _CUT)


def _machine(d: Facts) -> Any:

    s = d["setup"]
    sweep = s["model_bytes"] / s["link_bytes_per_s"]
    return Offload(sweep, s["saturation_tokens"] / sweep, s["kv_bytes"] / d["kv_bytes_per_token"])


def _regimes(d: Facts) -> Iterator[Check]:
    machine = _machine(d)
    error = relative(d["model_error"], "the source's own: its model is 94 % accurate")
    yield Check("one sweep over the weights", "s", d["sweep_s"]["free"], machine.sweep_s, error)
    why = "CPU attention takes memory bandwidth from the transfer, which a link bandwidth alone does not know"
    yield Check("one sweep, 210 GB of KV being read", "s", d["sweep_s"]["contended"], machine.sweep_s, error, why=why)
    for row in d["regimes"]:
        is_bound = float(machine.is_gpu_bound(_PROMPT, row["output"]))
        yield bound(
            f"GPU-bound with {row['output']} output tokens", "", row["gpu_bound"], is_bound, absolute(0.0, "exact")
        )


def _simulated(d: Facts) -> Iterator[Check]:
    """Memory-bound by construction: the GPU is taken as fast enough, so that the closed form applies."""

    machine = replace(_machine(d), gpu_tokens_per_s=float("inf"))
    for row in d["finite"]:
        output, requests = row["output"], row["requests"]
        share = simulate_tokens_per_s(machine, _PROMPT, output, requests) / machine.bound_tokens_per_s(_PROMPT, output)
        closed = finite_share(machine, _PROMPT, output, requests)
        name = f"{requests} requests of {output} tokens, simulator over closed form"
        limit = between(closed * (1 - _SIMULATOR), closed * (1 + _SIMULATOR))
        yield own(name, "of the bound", None, share, limit, how="simulated")
    distance = 1 - simulate_tokens_per_s(machine, _PROMPT, 32, 1_000_000) / machine.bound_tokens_per_s(_PROMPT, 32)
    limit = at_most(_SIMULATOR, AIM)
    yield own("distance from the bound, a million requests", "", None, distance, limit, how="simulated")
