"""`SingleNodeModel`: one forward pass, or one training step, of any model on one device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import anywhere, ceil, exp, maximum
from waferline.errors import InvalidInputError, unknown
from waferline.formats import Precision, computed_notes, get_format, labels_of, resolve
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.blocks import Values, over_blocks, over_labels
from waferline.predict.degrees import check_links
from waferline.predict.engine import Engine, default_engine, get_engine, with_memory_share
from waferline.predict.exchange import collective_s, exposed_s
from waferline.predict.kinds import backward_share
from waferline.predict.memory import model_weight_bytes
from waferline.predict.phase import INTERVALS, Phase, at_efficiency, run_phase
from waferline.predict.power import phase_power_w
from waferline.predict.result import Field, Result, WhenRead, merged_sources
from waferline.predict.roofline import Timed, machine_for
from waferline.predict.techniques import Applied, applied, of_one_pass, on_machine
from waferline.text import told
from waferline.units import SECONDS_PER_HOUR
from waferline.workloads.convnet import as_stored, live_bytes
from waferline.workloads.load import load_model
from waferline.workloads.lower import lower_forward
from waferline.workloads.operator import Operator
from waferline.workloads.placement import logits_to_host
from waferline.workloads.scenario import common_shape, real, whole
from waferline.workloads.spec import ConvNet, ModelSpec, Transformer, Work
from waferline.workloads.streams import StreamNet
from waferline.workloads.weights import weight_elements

PHASES = ("infer", "train")
_DEFAULT_TOKENS = 512.0  # of an encoder or decoder when the caller gives no length
_HELD_ACTIVATIONS = 2.0  # inference holds the input and the output of one layer at a time
_MEGA = 1e6

NOT_MODELLED = (
    "data loading and pre-processing",
    "operators that the runtime fuses, skips or falls back on",
    "clock throttling, and other tenants of the same host",
)


class SingleNodeResult(Result):
    """What `SingleNodeModel.solve` answers. Every field broadcasts over scenarios."""

    latency = Field("latency_s", "One batch: a forward pass, or a whole training step")
    throughput = Field("samples_per_s", "Inputs per second")
    latency_compute = Field(
        "latency_compute_s", "Of that, what arithmetic alone takes at the machine's peak; the parts overlap"
    )
    latency_memory = Field("latency_memory_s", "What memory traffic alone takes at the machine's bandwidth")
    latency_overhead = Field(
        "latency_overhead_s", "What neither explains: launches, the host, and rates below the peaks"
    )
    bottleneck = Field("bottleneck", "compute, memory, link or overhead")
    mfu = Field("mfu", "Model FLOPs over peak")
    mbu = Field("mbu", "Memory traffic over bandwidth")
    feasible = Field("feasible", "True where weights and activations fit what the engine takes of the device")
    memory = Field("device_memory_bytes", "Weights, activations and, in training, gradients and optimizer state")
    memory_footprint = Field("device_memory_bytes", "The same, as lessons call it")
    model_weights_size = Field("weights_bytes", "All weights as stored")
    energy_per_sample = Field("energy_j_per_sample", "Energy of the device per input")
    light_latency = Field("light_latency_s", "Speed-of-light bound of `latency`")


@dataclass(frozen=True, slots=True)
class SingleNodeModel:
    """Closed-form single-device pass: for convolutional networks, encoders, and language models alike."""

    def solve(
        self,
        model: Any,
        hardware: Any,
        batch_size: Any = 1,
        precision: Any = "fp16",
        *,
        phase: str = "infer",
        seq_len: Any = None,
        engine: str | None = None,
        steps: Any = None,
        devices: Any = None,
        ring: Any = None,
        efficiency: float | None = None,
        memory_share: float | None = None,
        techniques: Any = None,
    ) -> SingleNodeResult:
        """Latency, throughput, memory and energy of one batch.

        `phase`: infer, or train (forward, backward and an Adam step). `seq_len`: tokens per input of a transformer.
        `steps`: of a diffusion model, whose pass is one denoising step; its usual number when nobody says. `devices`: that share
        the rows of each of its images, all weights on every one (as xDiT does); in training replicas that share the batch.
        `ring`: of those that share rows, how many pass keys and values round (ring attention); the others of each such group
        exchange heads (Ulysses), all of them unless said.
        `efficiency`: a textbook's share of peak arithmetic, above 0 and at most 1, in place of everything measured: memory at
        all of its bandwidth, nothing to launch, no interval. `memory_share`: of the device's memory that the engine takes.
        `techniques`: those of execution (`"translated"`), as in `ServingModel`.
        Numbers and `precision` may be arrays. Raises: UnknownNameError, InvalidInputError, UnsupportedError.
        """
        spec, device, with_ = load_model(model), load_hardware(hardware), applied(techniques)
        of_one_pass(with_, spec, device)
        device = on_machine(with_, device)
        if phase not in PHASES:
            raise unknown("phase", phase, PHASES)
        default = getattr(spec, "fixed_tokens", 0) or getattr(spec, "encoder_tokens", 0) or _DEFAULT_TOKENS
        a = {
            "batch_size": whole("batch_size", batch_size),
            "seq_len": whole("seq_len", default if seq_len is None else seq_len),
        }
        usual = getattr(spec, "steps", 0) if phase == "infer" else 0
        if usual:
            a["steps"] = whole("steps", usual if steps is None else steps)
        if usual or phase == "train":
            a["devices"] = whole("devices", 1 if devices is None else devices)
            check_links(device, a["devices"])
        if usual:
            a["ring"] = whole("ring", 1 if ring is None else ring)
            if anywhere(a["devices"] % a["ring"] != 0):
                raise InvalidInputError(f"a ring of {told(ring)} does not divide the devices, {told(devices or 1)}")
        for name, value in (("steps", steps), ("devices", devices), ("ring", ring)):
            if value is not None and name not in a:
                raise InvalidInputError(
                    f"{name} would not be read: {spec.name} is no diffusion model that makes images"
                )
        labels = labels_of(precision)
        common_shape({**a, "precision": labels})
        runner = default_engine(device, spec) if engine is None else get_engine(engine)
        accelerated = runner is default_engine(device) and device.kind in ("gpu", "tpu", "npu")
        if engine is None and (accelerated or (isinstance(spec, ConvNet) and runner.step_s)):
            runner = get_engine("static")  # engines of language models run no other networks
        if runner.one_pass and not (isinstance(spec, Transformer) and spec.has_head and spec.kind == "decoder"):
            runner = get_engine(runner.one_pass)
        if memory_share is not None:
            runner = with_memory_share(runner, float(real("memory_share", memory_share, least=0.01, most=1.0)))
        if efficiency is not None and (type(efficiency) not in (int, float) or not 1e-6 <= efficiency <= 1):
            raise InvalidInputError(
                f"efficiency is a share of peak of at least 0.000001 and at most 1, not {told(efficiency)}"
            )
        case = _Case(spec, device, runner, phase, efficiency, with_)
        values = over_labels(labels, a, lambda label, a: over_blocks(a, lambda part: case.values(label, part)))
        label = str(labels.flat[0])
        formats = [resolve(str(x), device.arithmetic) for x in np.unique(labels)]
        return SingleNodeResult(
            values=values,
            coords={k: v for k, v in {**a, "precision": labels}.items() if np.size(v) > 1},
            about={
                "model": spec.name,
                "hardware": device.name,
                "engine": runner.name,
                "phase": phase,
                "precision": ", ".join(p.label(cache=False) for p in formats),
            },
            operators=WhenRead(lambda: case.run(label, a, keep=True).rows(phase)) if labels.size == 1 else (),
            sources=WhenRead(lambda: merged_sources(spec.sources, device.citations)),
            not_modelled=NOT_MODELLED,
            notes=(
                *(
                    computed_notes(formats[0], device.name, device.arithmetic)
                    if efficiency is None
                    else (f"efficiency {efficiency:g} as given: nothing measured was used",)
                ),
                *(f"with {one.said()}: {one.technique.limits}" for one in with_),
            ),
        )


@dataclass(frozen=True, slots=True)
class _Case:
    model: ModelSpec
    device: Device
    engine: Engine
    phase: str
    efficiency: float | None = None
    techniques: tuple[Applied, ...] = ()

    def run(self, label: str, a: Mapping[str, Floats], *, keep: bool = False) -> Phase:
        precision = resolve(label, self.device.arithmetic)
        training = self.phase == "train"
        operators = lower_forward(
            self.model,
            batch=a["batch_size"],
            tokens=a["seq_len"],
            precision=precision,
            sharing=a["devices"] if "steps" in a else 1.0,
            ring=a.get("ring", 1.0),
            eager=self.engine.eager,
            fused=self.engine.fuses and not training,
            training=training,
        )
        layers = float(len(operators))
        masked = isinstance(self.model, Transformer) and self.model.kind == "encoder" and self.model.has_head
        if masked and not training and self.device.link("host") is not None:
            operators = logits_to_host(operators)
        if precision.activations == "fp32" and not training:
            operators = [replace(op, activations="tf32") if op.kind in self.engine.tf32 else op for op in operators]
        for one in self.techniques:
            if one.technique.one_pass is not None:
                operators = list(one.technique.one_pass(operators, one.given))
        if isinstance(self.model, ConvNet) and self.model.precision is not None:
            layers = float(sum(isinstance(w, Work) and w.macs > 0 and w.weight_bytes > 0 for w in self.model.layers))
        if training:
            operators = [_with_backward(op) for op in operators]
        if isinstance(self.model, StreamNet):
            layers = float(self.model.layers)
        if isinstance(self.model, Transformer):
            layers = float(sum(b.count for b in (*self.model.blocks, *self.model.encoder)))
        machine = machine_for(self.device, self.engine.kernels)
        resident = self.weight_bytes(precision)
        flat = self.efficiency is not None
        phase = run_phase(operators, machine, self.engine, layers=layers, resident_bytes=resident, keep=keep or flat)
        return phase if self.efficiency is None else at_efficiency(phase, self.efficiency)

    def elements(self) -> float:
        return float(sum(weight_elements(self.model).values()))

    def weight_bytes(self, precision: Precision) -> float:
        if isinstance(self.model, ConvNet) and as_stored(self.model, precision):
            return float(self.model.stored_bytes)
        if isinstance(self.model, Transformer) and self.phase == "infer":
            return model_weight_bytes(self.model, precision)
        return self.elements() * get_format(precision.weights).bytes_per_element

    def _after_s(self, precision: Precision, a: Mapping[str, Floats], passes_s: Floats) -> tuple[Floats, Floats]:
        """Seconds of a training step after its passes: (the optimizer, gradients between replicas that the passes do not hide)."""
        adam = read_packaged("training.yaml")["adam"]
        payload = self.elements() * adam["gradient_bytes"]
        reduce_s = collective_s("all_reduce", self.device, self.engine, precision, payload, a["devices"])
        return self.elements() * adam["moved_bytes"] / self.device.bandwidth_bytes_per_s, exposed_s(reduce_s, passes_s)

    def values(self, label: str, a: Mapping[str, Floats]) -> Values:
        precision = resolve(label, self.device.arithmetic)
        asked = a["batch_size"]
        optimizer_s: Floats = 0.0
        exchange_s: Floats = 0.0
        if self.phase == "train":  # each replica has its part of the batch
            a = {**a, "batch_size": ceil(asked / a["devices"])}
        phase = self.run(label, a)
        if self.phase == "train":
            optimizer_s, exchange_s = self._after_s(precision, a, phase.time_s)
        steps = a.get("steps", 1.0)
        latency = (phase.time_s + optimizer_s + exchange_s) * steps
        light = (phase.light_s + optimizer_s) * steps
        peak = self.device.peak(get_format(precision.activations).arithmetic)
        activations = self._activation_bytes(precision, a)
        memory = self.weight_bytes(precision) + self._state_bytes() + activations + self.engine.reserved_bytes
        utilization = memory / self._capacity_bytes()
        split = self._flash_and_sram() if self.phase == "infer" else {}
        if split:  # a microcontroller keeps weights in flash and activations in SRAM
            utilization = maximum(
                self.weight_bytes(precision) / split["flash_bytes"], activations / split["sram_bytes"]
            )
        out: dict[str, Any] = {
            "latency_s": latency,
            "light_latency_s": light,
            "samples_per_s": asked / latency,
            "light_samples_per_s": asked / light,
            "latency_compute_s": phase.compute_s * steps,
            "latency_memory_s": phase.memory_s * steps,
            "latency_overhead_s": phase.overhead_s * steps,
            "bottleneck": phase.bottleneck,
            "tier": phase.tier,
            "mfu": phase.flops * steps / (latency * peak),
            "mbu": phase.bytes * steps / (latency * self.device.bandwidth_bytes_per_s),
            "intensity_flops_per_byte": phase.intensity_flops_per_byte,
            "ridge_flops_per_byte": peak / self.device.bandwidth_bytes_per_s,
            "weights_bytes": self.weight_bytes(precision),
            "activation_bytes": activations,
            "device_memory_bytes": memory,
            "memory_utilization": utilization,
            "usable_bytes": self._capacity_bytes() * self.engine.memory_share,
            "feasible": utilization <= self.engine.memory_share,
            **split,
        }
        devices = a.get("devices", 1.0)
        if "steps" in a:
            out |= {"step_time_s": latency / steps, "light_step_time_s": light / steps, "devices": devices}
        for key, log_q in zip(INTERVALS, phase.log_q, strict=bool(phase.log_q)):
            out[f"latency_{key}_s"] = maximum(latency * exp(log_q), light)
        out |= self._expense(phase, out, devices)
        return {name: np.asarray(value) for name, value in out.items()}

    def _capacity_bytes(self) -> float:
        """Main memory; of a microcontroller all levels."""
        if self.device.kind == "mcu":
            return sum(level.capacity_bytes for level in self.device.memory)
        return self.device.capacity_bytes

    def _flash_and_sram(self) -> dict[str, float]:
        """What a microcontroller has of either; empty where its memory is one."""
        parts = {"flash_bytes": 0.0, "sram_bytes": 0.0}
        for level in self.device.memory:
            parts["flash_bytes" if "flash" in level.name else "sram_bytes"] += level.capacity_bytes
        return parts if self.device.kind == "mcu" and all(parts.values()) else {}

    def _state_bytes(self) -> float:
        """Gradients and optimizer states of training."""
        adam = read_packaged("training.yaml")["adam"]
        return self.elements() * (adam["gradient_bytes"] + adam["state_bytes"]) if self.phase == "train" else 0.0

    def _activation_bytes(self, precision: Precision, a: Mapping[str, Floats]) -> Floats:
        elements = get_format(precision.activations).bytes_per_element
        if isinstance(self.model, ConvNet):
            return a["batch_size"] * live_bytes(self.model, precision, training=self.phase == "train")
        if isinstance(self.model, StreamNet):
            held = self.model.held_elements(all_layers=self.phase == "train")
            return (
                a["batch_size"] * float(held * self.model.passes) * elements / (a["devices"] if "steps" in a else 1.0)
            )
        width = float(self.model.hidden_size)
        kept = read_packaged("training.yaml")["activation_bytes"]["none"] / elements if self.phase == "train" else 0.0
        layers = sum(b.count for b in (*self.model.blocks, *self.model.encoder))
        per_token = width * (_HELD_ACTIVATIONS + 4.0 + kept * layers)
        return a["batch_size"] * a["seq_len"] * per_token * elements

    def _expense(self, phase: Phase, out: dict[str, Any], devices: Floats) -> dict[str, Any]:
        expense: dict[str, Any] = {}
        power = phase_power_w(self.device, phase)
        if power is not None:
            expense["power_w"] = power * devices
            expense["energy_j_per_sample"] = power * devices / out["samples_per_s"]
        if self.device.hourly_usd is not None:
            hourly_usd = self.device.hourly_usd * devices
            expense["cost_per_msample_usd"] = hourly_usd / SECONDS_PER_HOUR / out["samples_per_s"] * _MEGA
        return expense


def one_pass(
    model: ModelSpec, device: Device, engine: Engine, precision: str, batch: float, tokens: float
) -> tuple[Timed, ...]:
    """The operators of one forward pass with their times: what an engine's constants are fitted on."""
    case = _Case(model, device, engine, "infer")
    return tuple(case.run(precision, {"batch_size": batch, "seq_len": float(np.ceil(tokens))}, keep=True).timed)


def _with_backward(op: Operator) -> Operator:
    """The operator executed forward and backward. Weight-only formats train in the activations' format: the gradients'."""
    return replace(op, count=op.count * (1.0 + backward_share(op.kind)))
