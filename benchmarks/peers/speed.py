"""How fast other tools answer the scenarios of `benchmarks.predict`, one call a scenario, in CPU time of their own process."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.peers.peer import ADAPTORS, PEERS
from benchmarks.peers.question import structure
from benchmarks.peers.runner import Replies, ask, put
from benchmarks.scenarios import CONFIGURATIONS, Configuration, points
from waferline.evidence.names import model_spec
from waferline.machines.hardware import load_hardware

ASKED_POINTS = 1_000
LOOP = "llm-viewer-loop"
NAMES = ("mlsysim", "llm-analysis", LOOP, "aiconfigurator-core")


def question(c: Configuration, batch: float, context: float) -> dict[str, Any]:
    """One scenario as plain data, as `benchmarks.peers.question` writes rows; the peak and bandwidth are for the loop."""
    device = load_hardware(c.machine)
    return {
        "id": f"{c} {batch:g} {context:g}",
        "phase": "generate",
        "load": "static",
        "needs": ["ttft_s", "itl_s"],
        "model": c.model,
        "structure": structure(model_spec(c.model)),
        "hardware": c.machine,
        "engine": "vllm",
        "weights": c.precision,
        "activations": "fp16",
        "kv_bits": 16,
        "kv_stated": True,
        "gemm": None,
        "moe": None,
        "batch": float(batch),
        "input_tokens": float(context),
        "output_tokens": 256.0,
        "tp": float(c.tp),
        "devices": float(c.tp),
        **dict.fromkeys(("pp", "ep", "dp"), 1.0),
        "peak_flops": device.peak("fp16"),
        "bandwidth_bytes_per_s": device.bandwidth_bytes_per_s,
    }


def _replies(name: str, asked: Sequence[dict[str, Any]]) -> Replies:
    if name == LOOP:
        return ask(sys.executable, ADAPTORS / "ask_loop.py", asked)
    return put(next(p for p in PEERS if p.name == name), asked)


def peer_speed(name: str) -> Mapping[str, Any]:
    """Answers per CPU second, warm: points of one configuration, and many configurations; or why there are none."""
    one = Configuration()
    batches, contexts = points(ASKED_POINTS)
    sets = {
        "points": [question(one, b, t) for b, t in zip(batches, contexts, strict=True)],
        "configurations": [question(c, 8, 2048) for c in CONFIGURATIONS],
    }
    out: dict[str, Any] = {}
    for what, asked in sets.items():
        replies = _replies(name, asked)
        if replies.failed:
            return {"failed": replies.failed}
        out[what] = {
            "asked": len(asked),
            "answered": sum("refused" not in a for a in replies.answers.values()),
            "per_cpu_s": replies.timing["answers_per_cpu_s"],
        }
        out |= {"version": replies.version, "import_cpu_s": replies.import_cpu_s}
    return out
