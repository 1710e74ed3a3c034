"""Published rows as questions that another tool can be asked: the row's full configuration as plain data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from waferline.errors import WaferlineError
from waferline.evidence.names import model_spec
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import Row
from waferline.evidence.scenario import request_of
from waferline.formats import get_format, resolve
from waferline.machines.hardware import load_hardware
from waferline.workloads.counts import parameter_count
from waferline.workloads.spec import Attention, FeedForward, MixtureOfExperts, ModelSpec, Transformer

# What a metric needs of the two times; everything else needs both.
_NEEDS = {
    "ttft_s": ["ttft_s"],
    "prompt_tokens_per_s": ["ttft_s"],
    "tpot_s": ["itl_s"],
    "decoded_tokens_per_s": ["itl_s"],
}
_BOTH = ["ttft_s", "itl_s"]
_ENGINES = ("vllm", "sglang", "tensorrt-llm")
_MODES = re.compile(r"\b(gemm|moe)=(\w+)")


@dataclass(frozen=True, slots=True)
class Question:
    """A row, what waferline is asked for it, and the same as plain data for another tool's adaptor."""

    row: Row
    request: Request
    data: dict[str, Any]


def questions(rows: Sequence[Row]) -> list[Question]:
    """Rows of language models that a static batch or a closed load answers, in row order.

    Left out, for every tool alike: rows whose configuration is not stated, full load (the batch is not stated),
    training, and models that generate nothing.
    """
    out = []
    for row in rows:
        request = request_of(row)
        if isinstance(request, Refusal) or request.door != "serving" or request.load == "full":
            continue
        out.append(Question(row, request, _data(row, request)))
    return out


def _data(row: Row, request: Request) -> dict[str, Any]:
    weights, activations, kv = _formats(request)
    modes = {key: value for key, value in _MODES.findall(row.notes) if value != "-"}
    sizes = ("batch", "input_tokens", "output_tokens", "tp", "pp", "ep", "dp", "devices")
    return {
        "id": row.id,
        "phase": row.phase,
        "load": request.load,
        "needs": _NEEDS.get(request.answer, _BOTH),
        "model": row.model,
        "structure": structure(model_spec(row.model)),
        "hardware": request.hardware,
        "engine": next((e for e in _ENGINES if row.engine.lower().startswith(e)), row.engine or "not stated"),
        "weights": weights,
        "activations": activations,
        "kv_bits": get_format(kv).bits,
        "kv_stated": bool(row.kv_format),
        "gemm": modes.get("gemm"),
        "moe": modes.get("moe"),
        **{name: float(getattr(request, name)) for name in sizes},
    }


def _formats(request: Request) -> tuple[str, str, str]:
    """(weights, activations, KV). Where the machine has no such arithmetic, the formats as they are named."""
    try:
        p = resolve(request.precision, load_hardware(request.hardware).arithmetic, kv=request.kv)
    except WaferlineError:
        named = dict(part.split("=") for part in request.precision.split(",") if "=" in part)
        weights = named.get("w", request.precision)
        return weights, named.get("a", weights), request.kv or "fp16"
    return p.weights, p.activations, p.kv


def structure(model: ModelSpec | Refusal) -> dict[str, Any] | None:
    """Sizes of a stack of identical causal attention layers, dense or of experts; None for anything else."""
    if not isinstance(model, Transformer) or model.encoder or len({(b.mixer, b.ffn) for b in model.blocks}) != 1:
        return None
    mixer, ffn = model.blocks[0].mixer, model.blocks[0].ffn
    if not isinstance(mixer, Attention) or not mixer.causal or not isinstance(ffn, FeedForward | MixtureOfExperts):
        return None
    count = parameter_count(model)
    routed = isinstance(ffn, MixtureOfExperts)
    return {
        "layers": sum(b.count for b in model.blocks),
        "hidden": model.hidden_size,
        "vocab": model.vocab_size,
        "max_positions": model.max_positions,
        "heads": mixer.heads,
        "kv_heads": mixer.kv_heads,
        "head_dim": mixer.head_dim,
        "intermediate": ffn.intermediate,
        "gated": ffn.gated,
        "experts": ffn.experts if routed else 1,
        "experts_per_token": ffn.experts_per_token if routed else 1,
        "shared_intermediate": ffn.shared_intermediate if routed else 0,
        "parameters": count.total,
        "active_parameters": count.active_per_token,
    }
