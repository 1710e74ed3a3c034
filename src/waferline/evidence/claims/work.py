"""What a request must compute and move whatever the schedule: the quantities that no implementation can avoid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.formats import Precision, get_format
from waferline.machines.device import Device
from waferline.predict.memory import kv_cache_bytes, model_weight_bytes
from waferline.workloads.lower import lower_decode, lower_forward, lower_prefill, prompt_of
from waferline.workloads.operator import Operator
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import ModelSpec, Transformer
from waferline.workloads.weights import weight_elements

_NOT_MATRICES = ("norm", "softmax", "elementwise", "gather", "collective")
_TRAINING_PASSES = 3.0  # forward, and backward for inputs and for weights


@dataclass(frozen=True, slots=True)
class Work:
    """Arithmetic and traffic of one sequence (or sample), all devices together. Arrays over requests.

    prompt_flops: reading the prompt. step_flops: one generated token. weight_bytes: read once by a step of the whole
    batch, expected distinct experts only. kv_bytes: read by a step of one sequence. held_bytes: KV cache of one sequence
    at its full length. stored_bytes: all weights.
    """

    prompt_flops: FloatArray
    step_flops: FloatArray
    weight_bytes: FloatArray
    kv_bytes: FloatArray
    held_bytes: FloatArray
    stored_bytes: float


def generating(
    model: Transformer, precision: Precision, batch: FloatArray, inputs: FloatArray, outputs: FloatArray
) -> Work:
    """The work of language models that generate. Context is the mean over the generation."""
    one = np.ones(())
    prompt = np.maximum(np.ceil(inputs), 1.0)
    start, memory = prompt_of(model, prompt)  # an encoder reads the prompt where there is one
    asked: dict[str, Any] = {"context": start + (outputs + 1) / 2, "memory": memory, "precision": precision}
    step = lower_decode(model, batch=one, **asked)
    together = lower_decode(model, batch=np.maximum(np.ceil(batch), 1.0), **asked)
    return Work(
        prompt_flops=matrix_flops(lower_prefill(model, batch=one, prompt=prompt, precision=precision)),
        step_flops=matrix_flops(step),
        weight_bytes=np.asarray(sum(op.count * op.weight_bytes for op in together), dtype=float),
        kv_bytes=np.asarray(sum(op.count * op.kv_bytes for op in step)),
        held_bytes=np.asarray(kv_cache_bytes(model, precision, prompt_of(model, inputs)[0] + outputs, one, memory)),
        stored_bytes=model_weight_bytes(model, precision),
    )


def one_pass_flops(model: ModelSpec, precision: Precision, tokens: FloatArray, training: bool = False) -> FloatArray:
    """FLOPs of one sample: a forward pass, or the three passes of training without recomputation."""
    operators = lower_forward(
        model, batch=1, tokens=tokens, precision=precision, parallel=Parallel(), training=training
    )
    return matrix_flops(operators) * (_TRAINING_PASSES if training else 1.0)


def stored_bytes(model: ModelSpec, precision: Precision) -> float:
    """Weights of any model in a format."""
    return float(sum(weight_elements(model).values())) * get_format(precision.weights).bytes_per_element


def matrix_flops(operators: Iterable[Operator]) -> FloatArray:
    """Arithmetic of matrix products and attention: what peaks are quoted for."""
    return np.asarray(sum(op.count * op.flops for op in operators if op.kind not in _NOT_MATRICES))


def best_peak_flops(device: Device, precision: Precision, activations_stated: bool) -> float:
    """The fastest arithmetic that the formats admit: that of the weights too where activations are not stated."""
    named = {precision.activations} if activations_stated else {precision.activations, precision.weights}
    wanted = {get_format(name).arithmetic for name in named}
    narrow = get_format(precision.weights).bits <= 8 and not activations_stated
    peaks = [device.peak_flops[a] for a in wanted if a in device.peak_flops]
    peaks += [device.peak_flops[a] for a in ("int8",) if narrow and a in device.peak_flops]
    return max(peaks, default=device.peak(get_format(precision.activations).arithmetic))


def best_bandwidth_bytes_per_s(device: Device, resident_bytes: float, devices: FloatArray) -> FloatArray:
    """Bandwidth of the nearest level that `devices` machines could hold the weights in."""
    best = np.full(np.shape(devices), device.bandwidth_bytes_per_s)
    for level in device.memory[:-1]:
        best = np.where(
            resident_bytes <= level.capacity_bytes * devices, np.maximum(best, level.bandwidth_bytes_per_s), best
        )
    return np.asarray(best)
