"""`WeightStreamingModel`: activations stay on the wafer, weights stream through it layer by layer from outside.

Equations (Cerebras weight streaming: MemoryX, SwarmX and CS system white papers; double buffering of one layer):

    t_l    = max(bytes_l / BW_io, flops_l(T) / (peak · efficiency))
    t_pass = t_fill + Σ t_l,  t_fill = bytes_1 / BW_io + ⌈log_radix(systems)⌉ · hop
    T · (activations + KV) + 2 · max(bytes_l) + code ≤ SRAM
    T*     = peak · efficiency · bytes_per_weight / (2 · BW_io)      (a dense model turns compute-bound there)

Systems work data-parallel behind a broadcast-reduce tree at line rate: the same t_l, throughput times `systems`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from waferline.arrays import FloatArray
from waferline.catalog.yaml_file import read_packaged
from waferline.encode import encode
from waferline.errors import InvalidInputError, UnsupportedError
from waferline.formats import Precision, get_format, labels_of, resolve
from waferline.machines.device import Device, Link
from waferline.machines.hardware import load_hardware
from waferline.predict.blocks import BLOCK_POINTS, Values, over_blocks, over_labels
from waferline.predict.memory import kv_elements_per_token
from waferline.predict.operator_row import OperatorRow
from waferline.predict.result import Field, Result, merged_sources
from waferline.predict.wafer.layers import Layer, layers, live_elements_per_token, matrix_flops
from waferline.workloads.load import load_model
from waferline.workloads.scenario import common_shape, real, whole
from waferline.workloads.spec import Transformer

Phase = Literal["prefill", "decode", "train"]

PHASES: tuple[Phase, ...] = ("prefill", "decode", "train")
_GRADIENT_BYTES = 2.0  # gradients leave in 16 bits
_BACKWARD_FLOPS = 2.0  # gradients of activations and of weights, each as costly as the forward product
_RESIDUAL_BYTES = 2.0

NOT_MODELLED = (
    "the optimizer step in the parameter store (hidden but for an iteration's end)",
    "input tokens and their embedding, which the host feeds",
    "sparsity of weights",
    "failures and stragglers among systems",
)


class WeightStreamingResult(Result):
    """What `WeightStreamingModel.solve` answers. Every field broadcasts; infeasible scenarios have no rates."""

    feasible = Field("feasible", "True where activations, KV cache and two layers' weights fit the wafer's SRAM")
    throughput = Field("throughput_tokens_per_s", "Tokens per second of all systems; NaN where infeasible")
    throughput_tokens_per_sec = Field("throughput_tokens_per_s", "The same as `throughput`, a bare number", "")
    pass_time = Field("pass_s", "One pass over all layers: a prefill, a decode step or a training step")
    bottleneck = Field("bottleneck", "compute or interconnect, whichever takes longer over the whole pass")
    layer_injection = Field("layer_injection_s", "Streaming in one (mean) layer's weights")
    layer_compute = Field("layer_compute_s", "Computing one (mean) layer")
    layer_injection_time = Field("layer_injection_s", "The same as `layer_injection`")
    layer_compute_time = Field("layer_compute_s", "The same as `layer_compute`")
    layer_time = Field("layer_s", "One (mean) layer: the longer of the two")
    break_even_batch_size = Field(
        "break_even_batch_size", "Smallest batch that hides the stream, whether it fits or not"
    )
    optimal_batch_size = Field("optimal_batch_size", "The smaller of `break_even_batch_size` and `max_batch_size`")
    break_even = Field(
        "break_even_tokens", "T*: tokens in flight at which the layers' matrices take as long as streaming them"
    )
    max_tokens = Field("max_tokens", "Tokens in flight that fit the SRAM")
    max_batch_size = Field("max_batch_size", "Largest batch of sequences of this length that fits")
    sram_utilization = Field("sram_utilization", "Share of the SRAM in use; above 1 where infeasible")
    wafer_memory_utilization = Field("sram_utilization", "The same as `sram_utilization`")
    ttft = Field("ttft_s", "Time to first token: the prefill pass, where both phases are asked for")
    itl = Field("itl_s", "Inter-token latency: the decode pass, where both phases are asked for")
    prefill_throughput = Field("prefill_tokens_per_s", "Prompt tokens per second, where both phases are asked for")
    light_pass = Field("light_pass_s", "Speed-of-light bound of `pass_time`: efficiency 1, nothing to fill")

    @property
    def trace(self) -> list[dict[str, Any]]:
        """One row per kind of layer: count, bytes, FLOPs, injection, compute and total seconds (all its layers)."""
        return [
            {"layer": r.name, "count": encode(r.count), "bytes": encode(r.bytes), "flops": encode(r.flops)}
            | {"time_s": encode(r.time_s), "light_s": encode(r.light_s), "bound": encode(r.bound)}
            for r in self.operators
        ]


@dataclass(frozen=True, slots=True)
class WeightStreamingModel:
    """Closed-form weight streaming on a wafer (or any machine whose file gives it a link of scope `io` to its weights)."""

    def solve(
        self,
        model: Any,
        hardware: Any,
        seq_len: Any,
        batch_size: Any = 1,
        precision: Any = "fp16",
        efficiency: Any = 0.5,
        *,
        phase: Phase = "decode",
        systems: Any = 1,
        kv: str | None = None,
    ) -> WeightStreamingResult:
        """One pass of `batch_size` sequences per system: one decode step, their prefill, or one training step.

        `seq_len` counts tokens per sequence (the context while decoding); `efficiency` is the share of the dense peak
        that layers reach. Numbers and `precision` broadcast.
        Raises: UnknownNameError, InvalidInputError, UnsupportedError (no I/O link, a format the machine lacks).
        """
        spec, device = load_model(model), load_hardware(hardware)
        if not isinstance(spec, Transformer):
            raise UnsupportedError(f"{spec.name} is not a transformer", hint="use SingleNodeModel for it")
        if phase not in PHASES:
            raise InvalidInputError(f"phase must be one of {', '.join(PHASES)}, got {phase!r}")
        arguments = {
            "batch_size": np.asarray(whole("batch_size", batch_size)),
            "seq_len": np.asarray(whole("seq_len", seq_len)),
            "efficiency": np.asarray(real("efficiency", efficiency, least=1e-6, most=1.0)),
            "systems": np.asarray(whole("systems", systems)),
        }
        _check_systems(device, arguments["systems"])
        labels = labels_of(precision)
        shape = common_shape({**arguments, "precision": labels})
        case = _Case(spec, device, _io_link(device), phase, kv)
        values = over_labels(
            labels, arguments, lambda label, a: over_blocks(a, lambda piece: case.values(label, piece))
        )
        single = labels.size == 1 and int(np.prod(shape)) <= BLOCK_POINTS
        return WeightStreamingResult(
            values=values,
            coords={k: v for k, v in {**arguments, "precision": labels}.items() if np.size(v) > 1},
            about={
                "model": spec.name,
                "hardware": device.name,
                "strategy": "weight-streaming",
                "phase": phase,
                "precision": case.label(str(labels.flat[0])) if labels.size == 1 else "several",
            },
            operators=case.rows(str(labels.flat[0]), arguments) if single else (),
            sources=merged_sources(spec.sources, device.citations),
            notes=tuple(f"{k}: {v['source']}" for k, v in read_packaged("weight_streaming.yaml").items()),
            not_modelled=NOT_MODELLED,
        )


def _check_systems(device: Device, systems: FloatArray) -> None:
    tree = device.link("scale-out")
    if tree is not None and systems.max() > tree.max_devices:
        raise InvalidInputError(
            f"systems must be at most the {tree.max_devices} that {tree.name} joins, got {systems.max():g}"
        )


def _io_link(device: Device) -> Link:
    link = device.link("io")
    if link is None:
        raise UnsupportedError(
            f"{device.name} keeps weights in its memory and streams none in", hint="try a wafer, such as cs3"
        )
    return link


@dataclass(frozen=True, slots=True)
class _Timed:
    """One kind of layer with its times: `one_s` of one layer, all kinds broadcasting over scenarios."""

    layer: Layer
    injection_s: float
    compute_s: FloatArray
    one_s: FloatArray


@dataclass(frozen=True, slots=True)
class _Case:
    """One model on one machine in one phase: everything but the numbers."""

    model: Transformer
    device: Device
    link: Link
    phase: Phase
    kv: str | None

    def label(self, precision: str) -> str:
        return resolve(precision, self.device.arithmetic, kv=self.kv).label()

    def timed(self, precision: Precision, a: Mapping[str, FloatArray]) -> list[_Timed]:
        peak = self.device.peak(get_format(precision.activations).arithmetic)
        stack = self._stack(precision, a["batch_size"], a["seq_len"])
        return [self._time(layer, peak * a["efficiency"], precision) for layer in stack]

    def _stack(self, precision: Precision, batch: Any, tokens: Any) -> list[Layer]:
        """The layers in the order they are streamed, the head last."""
        return layers(self.model, precision, batch=batch, tokens=tokens, decode=self.phase == "decode")

    def _time(self, layer: Layer, rate: FloatArray, precision: Precision) -> _Timed:
        injection = layer.weight_bytes / self.link.bandwidth_bytes_per_s
        compute = layer.flops / rate
        one = np.maximum(injection, compute)
        if self.phase == "train":  # forward; then backward, weights in again while gradients leave
            elements = layer.weight_bytes / get_format(precision.weights).bytes_per_element
            gradients = elements * _GRADIENT_BYTES / self.link.bandwidth_bytes_per_s
            one = one + np.maximum(max(injection, gradients), _BACKWARD_FLOPS * compute)
            injection = injection + max(injection, gradients)
            compute = compute * (1 + _BACKWARD_FLOPS)
        return _Timed(layer, injection, compute, one)

    def values(self, label: str, a: Mapping[str, FloatArray]) -> Values:
        precision = resolve(label, self.device.arithmetic, kv=self.kv)
        timed = self.timed(precision, a)
        total = sum((t.layer.count * t.one_s for t in timed), np.zeros(()))
        injection = sum(t.layer.count * t.injection_s for t in timed)
        compute = sum((t.layer.count * t.compute_s for t in timed), np.zeros(()))
        light = sum(
            (t.layer.count * np.maximum(t.injection_s, t.compute_s * a["efficiency"]) for t in timed), np.zeros(())
        )
        pass_s = self._fill_s(timed, a["systems"]) + total
        memory = self._memory(precision, [t.layer for t in timed], a)
        count = sum(t.layer.count for t in timed)
        new_tokens = a["batch_size"] * (1.0 if self.phase == "decode" else a["seq_len"])
        hiding = injection * new_tokens / compute  # tokens that hide the stream, at this length's attention
        hiding_batch = np.ceil(hiding / (1.0 if self.phase == "decode" else a["seq_len"]))
        fits = memory["feasible"]
        return {
            **memory,
            "throughput_tokens_per_s": np.where(fits, a["systems"] * new_tokens / pass_s, np.nan),
            "pass_s": np.asarray(pass_s),
            "bottleneck": np.where(compute >= injection, "compute", "interconnect"),
            "layer_injection_s": np.asarray(injection / count),
            "layer_compute_s": compute / count,
            "layer_s": total / count,
            "break_even_tokens": self._break_even(precision, a["efficiency"]),
            "break_even_batch_size": hiding_batch,
            "optimal_batch_size": np.minimum(hiding_batch, memory["max_batch_size"]),
            "light_pass_s": light,
            "mfu": compute * a["efficiency"] / pass_s,
        }

    def _break_even(self, precision: Precision, efficiency: FloatArray) -> FloatArray:
        """T* of the layer stack: what the matrices cost per token against what streaming them takes, forward."""
        rate = self.device.peak(get_format(precision.activations).arithmetic) * efficiency
        stack = self._stack(precision, 1, 1)[:-1]
        streamed = sum(x.count * x.weight_bytes for x in stack) / self.link.bandwidth_bytes_per_s
        return np.asarray(rate * streamed / sum(x.count * matrix_flops(x.operators) for x in stack))

    def _fill_s(self, timed: list[_Timed], systems: FloatArray) -> FloatArray:
        """The first layer arrives before anything runs; the tree's hops add once, as the stream is pipelined."""
        facts = read_packaged("weight_streaming.yaml")
        depth = np.ceil(np.log(systems) / np.log(float(facts["tree_radix"]["value"])) - 1e-9)
        first = timed[0].layer.weight_bytes / self.link.bandwidth_bytes_per_s
        return first + self.link.latency_s + depth * float(facts["tree_hop_s"]["value"])

    def _memory(self, precision: Precision, stack: list[Layer], a: Mapping[str, FloatArray]) -> Values:
        """SRAM of one wafer: code, two layers' weights, live activations, KV cache or kept activations."""
        code = float(read_packaged("weight_streaming.yaml")["code_share"]["value"]) * self.device.capacity_bytes
        fixed = code + 2 * max(layer.weight_bytes for layer in stack)
        live = live_elements_per_token(self.model) * _RESIDUAL_BYTES
        kept = kv_elements_per_token(self.model) * get_format(precision.kv).bytes_per_element
        if self.phase == "train":  # the input of every layer is kept; the rest is recomputed in the backward pass
            kept = self.model.hidden_size * _RESIDUAL_BYTES * sum(layer.count for layer in stack)
        per_sequence = a["seq_len"] * (kept + live) if self.phase != "decode" else a["seq_len"] * kept + live
        room = max(self.device.capacity_bytes - fixed, 0.0)
        used = fixed + a["batch_size"] * per_sequence
        most = np.floor(room / per_sequence)
        return {
            "feasible": np.asarray(used <= self.device.capacity_bytes),
            "sram_bytes": np.asarray(used),
            "sram_utilization": np.asarray(used / self.device.capacity_bytes),
            "max_batch_size": most,
            "max_tokens": np.floor(room / (kept + live)) if self.phase != "decode" else most,
        }

    def rows(self, label: str, a: Mapping[str, FloatArray]) -> tuple[OperatorRow, ...]:
        """One row of `explain` for each kind of layer."""
        precision = resolve(label, self.device.arithmetic, kv=self.kv)
        return tuple(
            OperatorRow(
                phase=self.phase,
                name=t.layer.name,
                kind="streamed layer",
                count=np.asarray(t.layer.count),
                time_s=t.layer.count * t.one_s,
                light_s=t.layer.count * np.maximum(t.injection_s, t.compute_s * a["efficiency"]),
                flops=t.layer.count * t.layer.flops,
                bytes=np.asarray(t.layer.count * t.layer.weight_bytes),
                bound=np.where(t.compute_s >= t.injection_s, "compute", "link"),
                tier="spec only",
            )
            for t in self.timed(precision, a)
        )
