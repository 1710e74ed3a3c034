"""What predict says of a model that was measured: phase by phase, under the names its runner times operators by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from waferline.evidence.side_by_side.known import Known, predicted
from waferline.measure.contract import required
from waferline.measure.model import ModelResult
from waferline.workloads.load import load_model
from waferline.workloads.lower import lower_decode, lower_prefill
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Transformer

# Predict's operators by the runner's names; what a kernel does in the same loop counts together.
_NAMES: Mapping[str, str] = {
    "norm": "norm",
    "final_norm": "norm",
    "attention.qkv": "attn_qkv",
    "attention.rope": "rope_and_cache",
    "attention.kv_append": "rope_and_cache",
    "attention.core": "attention",
    "attention.out": "attn_output",
    "moe.router": "router",
    "ffn.gate_up": "ffn_gate_up",
    "moe.experts": "ffn_gate_up",
    "ffn.act": "swiglu",
    "ffn.down": "ffn_down",
    "head": "output",
}
_STREAMING = ("norm", "elementwise", "softmax")
_F32_OVER_16_BITS = 2.0
_NOT_RUN = ("sampling", "embedding")  # outside the timed step


def model_beside(result: ModelResult, known: Known | None) -> dict[str, Any]:
    """A measured model as data, with what predict says of it where a machine is known.

    Raises: RefusedError when a phase was refused.
    """
    required(result.prefill)
    formats = required(result.decode).detail["formats"]
    told = predicted_model(known.on_threads(result.threads), result.path, formats, result) if known else None
    return {**result.to_json(), "predicted": told}


def predicted_model(known: Known, file: Path, formats: Mapping[str, str], result: ModelResult) -> dict[str, Any]:
    """Seconds of the prefill and of the middle decode step, and of each operator in them."""
    spec = load_model(file)
    assert isinstance(spec, Transformer)
    kv = {"f16": "fp16", "q8": "q8_0"}[result.kv]
    known = known.in_one_step()
    precision = known.precision(f"w={formats['weights']},kv={kv},head={formats['head']}")
    context = result.prompt + result.output / 2
    prefill = lower_prefill(spec, batch=1, prompt=result.prompt, precision=precision)
    decode = lower_decode(spec, batch=1, context=context, precision=precision)
    return {"precision": precision.label(), "prefill": _phase(known, prefill), "decode": _phase(known, decode)}


def _phase(known: Known, operators: list[Operator]) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    for op in operators:
        if op.name in _NOT_RUN:
            continue
        name = _NAMES.get(op.name, op.name)
        if op.kind in _STREAMING:  # this runner keeps activations in f32, twice the 16 bits that engines move
            op = replace(op, activation_bytes=op.activation_bytes * _F32_OVER_16_BITS)
        seconds[name] = seconds.get(name, 0.0) + float(op.count) * predicted(known, op)["expected_s"]
    return {"expected_s": sum(seconds.values()), "operators_s": seconds}
