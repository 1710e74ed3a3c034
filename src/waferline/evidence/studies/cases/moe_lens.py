"""MoE-Lens: how fast a mixture of experts runs when its weights and KV cache live in CPU memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import AIM, absolute, at_most, between, printed, relative

_KILO = 1e3
_PROMPT = 98
_CUT = absolute(0.0, "exact, cut off as the source does")
_SIMULATOR = 0.02  # simulator against closed form


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts

    data = facts("moe-lens")
    for row in data["saturation"]:
        yield from _saturation(row, data)
    yield from _regimes(data)
    yield from _simulated(data)
    why = "the printed tables of absolute throughput were not at hand"
    yield Check("throughput against MoE-Lightning", "×", 4.6, None, why=why)


def _saturation(row: Mapping[str, Any], d: Mapping[str, Any]) -> Iterator[Check]:
    from waferline.techniques.moe_offload import saturating_tokens

    tokens = saturating_tokens(row["peak_flops"], d["link_bytes_per_s"], d["experts"], d["chosen"])
    mixed = tokens * d["unit_mix"]
    yield Check(f"{row['gpu']}, tokens that saturate", "k", float(row["tokens"]), mixed / _KILO, printed(row["tokens"]))
    gigabytes = int(mixed * 256 * d["kv_bytes_per_token"] / (1000 * 2**20))
    yield Check(f"{row['gpu']}, KV cache for them, 256 tokens", "1000 MiB", row["kv_256"], gigabytes, _CUT)
    yield Check(f"{row['gpu']}, KV cache for them, 512 tokens", "1000 MiB", row["kv_512"], 2 * gigabytes, _CUT)


def _machine(d: Mapping[str, Any]) -> Any:
    from waferline.techniques.moe_offload import Offload

    s = d["setup"]
    sweep = s["model_bytes"] / s["link_bytes_per_s"]
    return Offload(sweep, s["saturation_tokens"] / sweep, s["kv_bytes"] / d["kv_bytes_per_token"])


def _regimes(d: Mapping[str, Any]) -> Iterator[Check]:
    machine = _machine(d)
    error = relative(d["model_error"], "the source's own: its model is 94 % accurate")
    yield Check("one sweep over the weights", "s", d["sweep_s"]["free"], machine.sweep_s, error)
    why = "CPU attention takes memory bandwidth from the transfer, which a link bandwidth alone does not know"
    yield Check("one sweep, 210 GB of KV being read", "s", d["sweep_s"]["contended"], machine.sweep_s, error, why=why)
    for row in d["regimes"]:
        bound = float(machine.is_gpu_bound(_PROMPT, row["output"]))
        yield Check(
            f"GPU-bound with {row['output']} output tokens", "", row["gpu_bound"], bound, absolute(0.0, "exact")
        )


def _simulated(d: Mapping[str, Any]) -> Iterator[Check]:
    """Memory-bound by construction: the GPU is taken as fast enough, so that the closed form applies."""
    from dataclasses import replace

    from waferline.techniques.moe_offload import finite_share, simulate_tokens_per_s

    machine = replace(_machine(d), gpu_tokens_per_s=float("inf"))
    for row in d["finite"]:
        output, requests = row["output"], row["requests"]
        bound = machine.bound_tokens_per_s(_PROMPT, output)
        share = simulate_tokens_per_s(machine, _PROMPT, output, requests) / bound
        closed = finite_share(machine, _PROMPT, output, requests)
        name = f"{requests} requests of {output} tokens, simulator over closed form"
        limit = between(closed * (1 - _SIMULATOR), closed * (1 + _SIMULATOR))
        yield Check(name, "of the bound", None, share, limit, how="simulated")
    distance = 1 - simulate_tokens_per_s(machine, _PROMPT, 32, 1_000_000) / machine.bound_tokens_per_s(_PROMPT, 32)
    limit = at_most(_SIMULATOR, AIM)
    yield Check("distance from the bound, a million requests", "", None, distance, limit, how="simulated")


STUDY = Study(
    name="moe-lens",
    title="MoE-Lens: high-throughput MoE serving from CPU memory",
    source=Source("https://arxiv.org/abs/2504.09345", "2025-04-12"),
    claim="4.6 times the throughput of the best earlier system, and a model of it that is 94 % accurate",
    configuration={"model": "Mixtral-8x7B, bf16", "machine": "A40 with 19.5 GB/s from two Xeon 8380", "prompt": "98"},
    compute=compute,
    note="figures of the set-up are secondary; the closed form of finite batches is ours",
)
