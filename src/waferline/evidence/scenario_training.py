"""Rows of training: one optimizer step of a transformer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from waferline.catalog.yaml_file import read_file
from waferline.evidence import notes
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import Row
from waferline.formats import get_format
from waferline.predict.training_stack import stack_names
from waferline.workloads.spec import ModelSpec, Transformer

# Its batches are those of a replica; pipelines cut them into as many micro-batches as they have stages (its default).
_LOCAL_BATCHES = "torchtitan"
# Words in notes that name the activation recomputation, first match wins; engines that say nothing run their default.
_RECOMPUTE = (
    ("activation checkpointing=True", "full"),
    ("activation checkpointing=False", "none"),
    ("full AC", "full"),
    ("selective AC", "selective"),
    ("SAC", "selective"),
    ("FLOPs include recomputation", "full"),
    ("Megatron formula", "full"),
)
# Sources whose model FLOPs count attention as causal: their TFLOP/s over their tokens/s equal ours so, to 1 %.
_CAUSAL_SOURCES = ("NVIDIA Megatron-Bridge",)
_CAUSAL_FIELDS = {"tflops_per_device": "causal_tflops_per_device", "mfu": "causal_mfu"}
_COUNT_RECOMPUTATION = ("FLOPs include recomputation", "Megatron formula")
_HARDWARE_FIELDS = {"tflops_per_device": "recomputed_tflops_per_device", "mfu": "hfu"}
# Words in a row's engine → the training stack that stands for it, first match wins.
_STACKS = (
    ("llm-foundry", "llm-foundry"),
    ("megatron-bridge", "megatron-bridge"),
    ("nemo", "megatron-bridge"),
    ("megatron", "megatron-lm"),
    ("torchtitan", "torchtitan"),
    ("deepspeed", "deepspeed"),
    ("oneflow", "oneflow"),
    ("meta internal", "meta-4d"),
    ("", "none"),
)
_SHARDED = ("FSDP", "ZeRO-3")
_DEFAULT_RECOMPUTE = "selective"


def training_request(row: Row, model: ModelSpec, hardware: str, assumed_hardware: str) -> Request | Refusal:
    """The question that a training row asks, with what had to be assumed for it."""
    row = completed(row)
    if not isinstance(model, Transformer):
        return Refusal("model", f"training of {row.model} has no stated configuration")
    if not row.weight_format:
        return Refusal("format", "compute format not stated")
    sequence = row.input_tokens or model.fixed_tokens
    if not sequence:
        return Refusal("lengths", "sequence length not stated")
    if row.tp is None or row.pp is None or row.dp is None or row.devices is None:
        return Refusal("parallelism", "how the devices share the model is not stated")
    shared = notes.context_parallel(row)
    tp = row.devices / (row.pp * row.dp * shared) if row.source.startswith("AWS Neuron") else row.tp
    if tp * row.pp * row.dp * shared != row.devices:
        return Refusal("parallelism", f"tp·pp·dp·cp is {tp * row.pp * row.dp * shared:g} of {row.devices:g} devices")
    batch = _batch(row)
    if isinstance(batch, Refusal):
        return batch
    total, micro, assumed_batch = batch
    recompute, assumed_recompute = _recompute(row)
    context = f"context parallelism {shared:g} taken to divide the step" if shared > 1 else ""
    said = (assumed_hardware, assumed_batch, assumed_recompute, context)
    return Request(
        door="training",
        model=row.model,
        hardware=hardware,
        precision=get_format(row.weight_format).name,
        engine=_stack(row),
        answer=_answer(row),
        variant=recompute,
        sharding="fsdp" if any(word in row.notes for word in _SHARDED) and "FSDP0" not in row.notes else "zero1",
        batch=total,
        micro_batch=micro,
        input_tokens=sequence,
        tp=tp,
        pp=row.pp,
        ep=row.ep or 1.0,
        dp=row.dp,
        slices=notes.slices(row),
        context_parallel=shared,
        assumed=tuple(s for s in said if s),
    )


@cache
def _scripts() -> Mapping[str, Any]:
    return read_file(Path(__file__).parent / "data" / "completed.yaml")["rows"]


def completed(row: Row) -> Row:
    """The row with what the scripts that its source links say of it (`data/completed.yaml`)."""
    script = next((s for s in _scripts().values() if row.source.startswith(s["of"]) and row.model in s["batch"]), None)
    if script is None or row.batch is not None or row.devices is None:
        return row
    total = row.devices * script["batch"][row.model]
    return replace(row, batch=total, input_tokens=float(script["length"]), notes=f"{row.notes}; {script['notes']}")


def _stack(row: Row) -> str:
    """The training framework whose measured efficiency stands for the row's engine."""
    name = row.engine.lower()
    known = stack_names()
    return next((stack for words, stack in _STACKS if words in name and stack in known), "none")


def _batch(row: Row) -> tuple[float, float, str] | Refusal:
    """(global batch, micro-batch, what was assumed) in sequences."""
    dp = row.dp or 1.0
    micro = notes.micro_batch(row)
    total, said = row.batch, ""
    if total is None and (per_replica := notes.sequences_per_replica(row)) is not None:
        total, said = per_replica * dp, f"{per_replica:g} sequences per replica"
    if total is None and micro is not None:
        total, said = micro * dp, "no gradient accumulation"
    if total is None:
        return Refusal("batch", "global batch not stated")
    if micro is not None and _stack(row) == _LOCAL_BATCHES and (row.pp or 1.0) > 1.0:
        micro = max(micro / (row.pp or 1.0), 1.0)
    if micro is None:
        micro, more = 1.0 if (row.pp or 1) > 1 else max(total / dp, 1.0), "micro-batch not stated"
        said = f"{said}; {more}" if said else more
    return total, min(micro, max(total / dp, 1.0)), said


def _answer(row: Row) -> str:
    """The result field: sources differ in whether recomputation and masked attention count as FLOPs."""
    if row.source.startswith(_CAUSAL_SOURCES):
        return _CAUSAL_FIELDS.get(row.metric, row.metric)
    hardware = any(words in row.notes for words in _COUNT_RECOMPUTATION)
    return _HARDWARE_FIELDS.get(row.metric, row.metric) if hardware else row.metric


def _recompute(row: Row) -> tuple[str, str]:
    for words, mode in _RECOMPUTE:
        if words in row.notes:
            return mode, ""
    return _DEFAULT_RECOMPUTE, f"activation recomputation not stated: {_DEFAULT_RECOMPUTE}"
