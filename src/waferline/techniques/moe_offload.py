"""Batched mixture-of-experts serving from CPU memory: weights stream over the host link, attention runs on the CPU.

Throughput is limited by how many tokens share one sweep over the weights, and that by the KV cache that CPU memory
holds. Source: MoE-Lens, arXiv:2504.09345, equations 1 to 4; the iteration rule is ours (its equations 8 to 14 unread).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from waferline.errors import InvalidInputError


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
