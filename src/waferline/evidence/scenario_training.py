"""Rows of training: one optimizer step of a transformer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from waferline.catalog.yaml_file import read_file
from waferline.evidence import benchmarks, notes
from waferline.evidence.groups import fastest_step, said
from waferline.evidence.metrics import TO_TRAIN
from waferline.evidence.names import usual_format
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import Row
from waferline.formats import get_format
from waferline.predict.training_stack import stack_names, usual_recompute
from waferline.workloads.spec import ModelSpec, Transformer

# Its batches are those of a replica; pipelines cut them into as many micro-batches as they have stages (its default).
_LOCAL_BATCHES = "torchtitan"
# Words in notes that name the activation recomputation, first match wins; engines that say nothing run their default.
_RECOMPUTE = (
    ("activation checkpointing=True", "full"),
    ("activation checkpointing=False", "none"),
    ("full AC", "full"),
    ("selective AC", "half"),  # torchtitan's: it keeps every second matrix product
    ("SAC", "half"),
    ("FLOPs include recomputation", "full"),
    ("Megatron formula", "full"),
)
# Sources whose model FLOPs count attention as causal: TFLOP/s over tokens/s equal ours so, to 1 %, or the source says it.
_CAUSAL_SOURCES = ("NVIDIA Megatron-Bridge", "stas00/ml-engineering")
_CAUSAL_FIELDS = {"tflops_per_device": "causal_tflops_per_device", "mfu": "causal_mfu"}
_COUNT_RECOMPUTATION = ("FLOPs include recomputation", "Megatron formula")
_HARDWARE_FIELDS = {"tflops_per_device": "recomputed_tflops_per_device", "mfu": "hfu"}
# Words in a row's engine → the training stack that stands for it, first match wins.
_STACKS = (
    ("llm-foundry", "llm-foundry"),
    ("megatron-bridge", "megatron-bridge"),
    ("nemo", "none"),  # of MLPerf's rows: whole steps are replayed as graphs there, and nothing of them is fitted
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
    stated = row.weight_format or usual_format(row)
    if not stated:
        return Refusal("format", "compute format not stated")
    rules = benchmarks.training(row)
    sequence = rules.used or row.input_tokens or rules.length or model.fixed_tokens
    if not sequence:
        return Refusal("lengths", "sequence length not stated")
    if row.devices is None:
        return Refusal("devices", "the number of devices is not stated")
    batch = _batch(row)
    if isinstance(batch, Refusal):
        return batch
    total, micro, assumed_batch = batch
    run = rules.to_converge(total) if row.metric == TO_TRAIN else None
    if row.metric == TO_TRAIN and run is None:
        return Refusal("convergence", f"what {row.model} needs to converge is not known")
    recompute, assumed_recompute = _recompute(row)
    request = Request(
        door="training",
        model=row.model,
        hardware=hardware,
        precision=get_format(stated).name,
        engine=_stack(row),
        answer="step_time_s" if run else _answer(replace(row, metric=benchmarks.metric(row))),
        variant=recompute,
        sharding="fsdp" if any(word in row.notes for word in _SHARDED) and "FSDP0" not in row.notes else "zero1",
        trains=rules.trains,
        passes=(run or total) / total,
        batch=total,
        micro_batch=micro,
        input_tokens=sequence,
        ep=row.ep or 1.0,
        slices=notes.slices(row),
        virtual_stages=notes.virtual_stages(row),
    )
    group = _group(row, request)
    if isinstance(group, Refusal):
        return group
    is_open = row.tp is None or row.pp is None or row.dp is None
    shared = group.context_parallel
    told = (
        assumed_hardware,
        "" if row.weight_format else f"compute format not stated: taken as {stated}",
        "" if row.input_tokens else f"sequences of {sequence:g} tokens, by the benchmark's rules",
        "" if is_open else assumed_batch,
        assumed_recompute,
        said(group) if is_open else "",
        f"context parallelism {shared:g} taken to divide the step" if shared > 1 else "",
        f"a run of {run:g} samples, the benchmark's reference; evaluation and start are not counted" if run else "",
    )
    made = {"group": is_open, "format": not row.weight_format, "convergence": run is not None}
    return replace(
        group, assumed=tuple(s for s in told if s), guesses=tuple(name for name, is_made in made.items() if is_made)
    )


def _group(row: Row, request: Request) -> Request | Refusal:
    """The request with the degrees that the row states, or with those that make its step shortest."""
    devices = row.devices or 1.0
    if row.tp is None or row.pp is None or row.dp is None:
        return fastest_step(request, int(devices))
    shared = notes.context_parallel(row)
    tp = devices / (row.pp * row.dp * shared) if row.source.startswith("AWS Neuron") else row.tp
    if tp * row.pp * row.dp * shared != devices:
        return Refusal("parallelism", f"tp·pp·dp·cp is {tp * row.pp * row.dp * shared:g} of {devices:g} devices")
    return replace(request, tp=tp, pp=row.pp, dp=row.dp, context_parallel=shared)


@cache
def _scripts() -> Mapping[str, Any]:
    return read_file(Path(__file__).parent / "data" / "completed.yaml")["rows"]


def completed(row: Row) -> Row:
    """The row with what the scripts that its source links say of it (`data/completed.yaml`)."""
    scripts = (s for s in _scripts().values() if row.source.startswith(s["of"]) and s.get("words", "") in row.notes)
    script = next((s for s in scripts if row.model in s.get("batch", (row.model,))), None)
    if script is None:
        return row
    row = replace(row, notes=f"{row.notes}; {script['notes']}")
    if "batch" not in script or row.batch is not None or row.devices is None:
        return row
    return replace(row, batch=row.devices * script["batch"][row.model], input_tokens=float(script["length"]))


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
    usual = usual_recompute(_stack(row)) or _DEFAULT_RECOMPUTE
    return usual, f"activation recomputation not stated: {usual}"
