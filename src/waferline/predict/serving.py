"""`ServingModel`: prefill and decode of a language model on a group of devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError
from waferline.formats import Precision, get_format, resolve
from waferline.machines.device import Device
from waferline.predict.engine import Engine, default_engine, get_engine
from waferline.predict.inputs import as_device, as_model
from waferline.predict.labels import Values, over_labels
from waferline.predict.loaded import check_load, loaded_values
from waferline.predict.memory import PREFILL_CHUNK_TOKENS, Footprint, footprint, model_weight_bytes
from waferline.predict.phase import Phase, run_phase
from waferline.predict.power import phase_power_w
from waferline.predict.profile import Profile, load_profile
from waferline.predict.result import Field, Result, merged_sources
from waferline.predict.roofline import BOUNDS, Machine
from waferline.workloads.lower import lower_decode, lower_prefill
from waferline.workloads.scenario import Parallel, common_shape, whole
from waferline.workloads.spec import Transformer
from waferline.workloads.weights import as_shipped

_SECONDS_PER_HOUR = 3600.0
_MEGA = 1e6

NOT_MODELLED = (
    "queueing and arrivals: every request starts at once",
    "prefill and decode steps that interleave (chunked prefill under load)",
    "speculative decoding and prefix caching",
    "imbalance between experts beyond the expected number that a batch touches",
    "clock throttling, and other tenants of the same host",
    "measured power: energy follows assumed shares of the power limit",
)


class ServingResult(Result):
    """What `ServingModel.solve` answers. Every field broadcasts over scenarios."""

    feasible = Field("feasible", "True where weights, KV cache, activations and workspace fit every device")
    ttft = Field("ttft_s", "Time to first token of the batch, nothing else running")
    itl = Field("itl_s", "Inter-token latency (TPOT): one decode step, seen by every sequence")
    tpot = Field("itl_s", "Time per output token: the same as `itl`")
    throughput = Field("throughput_tokens_per_s", "Generated tokens per second of all sequences while decoding")
    tokens_per_user = Field("user_tokens_per_s", "Generated tokens per second that one sequence sees")
    request_time = Field("request_s", "The whole batch: prefill and all output tokens")
    model_weights_size = Field("weights_bytes", "All weights as stored, all devices together")
    kv_cache_size = Field("kv_cache_bytes", "KV cache of all sequences, all devices together")
    memory_per_device = Field("device_memory_bytes", "Everything on the fullest device")
    memory_utilization = Field("memory_utilization", "That, as a share of the device's capacity")
    max_batch_size = Field("max_batch_size", "Sequences that fit at these lengths")
    prefill_bottleneck = Field("prefill_bottleneck", "compute, memory, link or overhead")
    decode_bottleneck = Field("decode_bottleneck", "compute, memory, link or overhead")
    bottleneck = Field("decode_bottleneck", "The decode bottleneck")
    energy_per_token = Field("energy_j_per_token", "Energy of all devices per generated token while decoding")
    cost_per_mtoken = Field("cost_usd_per_mtoken", "Hourly price of all devices per million generated tokens")
    loaded_ttft = Field("loaded_ttft_s", "Time to first token under the load asked for")
    loaded_tpot = Field("loaded_tpot_s", "Time per output token under the load asked for")
    loaded_throughput = Field("loaded_throughput_tokens_per_s", "Generated tokens per second of all devices under load")
    running_sequences = Field(
        "running_sequences", "Sequences that decode together under load: asked, or what memory holds"
    )
    light_ttft = Field("light_ttft_s", "Speed-of-light bound of `ttft`")
    light_itl = Field("light_itl_s", "Speed-of-light bound of `itl`")


@dataclass(frozen=True, slots=True)
class ServingModel:
    """Closed-form serving: one prefill of the whole batch, then decode steps at the mean context of the generation.

    Sources: roofline (Williams 2009); KV and FLOP counting as in `waferline.workloads`; constants as each operator names.
    """

    def solve(
        self,
        model: Any,
        hardware: Any,
        seq_len: Any,
        batch_size: Any = 1,
        precision: Any = "fp16",
        *,
        output_len: Any = 0,
        kv: str | None = None,
        tp: Any = 1,
        pp: Any = 1,
        ep: Any = 1,
        dp: Any = 1,
        engine: str | None = None,
        profile: Profile | str | None = None,
        load: str = "static",
        intervals: bool = True,
    ) -> ServingResult:
        """Time, memory, energy and cost of `batch_size` requests of `seq_len` prompt and `output_len` output tokens.

        Numbers and `precision` may be arrays; they broadcast as in NumPy (`waferline.grid` makes every combination).
        `batch_size` counts sequences over all `dp` replicas. `tp`, `pp`, `ep`, `dp` as in `Parallel`. profile: a calibration
        (or its file) of `waferline calibrate`. load: static (one batch), or with fields `loaded_*` beside it: closed
        (`batch_size` clients that send a request when theirs is done), burst (all requests at once), full (a queue that
        never empties: the batch is what memory and the scheduler allow). intervals: False leaves the 50 % and 90 % intervals
        of a static batch out, for sweeps that only rank.
        Raises: UnknownNameError, InvalidInputError, UnsupportedError (a format or link the machine lacks).
        """
        spec, device = as_model(model), as_device(hardware)
        if not isinstance(spec, Transformer) or not spec.has_head:
            raise InvalidInputError(f"{spec.name} does not generate tokens", hint="use SingleNodeModel for it")
        arguments = {
            "batch_size": whole("batch_size", batch_size),
            "seq_len": whole("seq_len", seq_len),
            "output_len": whole("output_len", output_len, least=0),
            "tp": whole("tp", tp),
            "pp": whole("pp", pp),
            "ep": whole("ep", ep),
            "dp": whole("dp", dp),
        }
        labels = np.asarray(precision, dtype=str)
        common_shape({**arguments, "precision": labels})
        runner = default_engine(device) if engine is None else get_engine(engine)
        if profile is not None:
            runner = (profile if isinstance(profile, Profile) else load_profile(profile)).over(runner, device)
        case = _Case(spec, device, runner, kv, check_load(load), intervals)
        values = over_labels(labels, arguments, case.values)
        single = labels.size == 1
        return ServingResult(
            values=values,
            coords={k: v for k, v in {**arguments, "precision": labels}.items() if np.size(v) > 1},
            about=case.about(labels),
            operators=case.rows(str(labels.flat[0]), arguments) if single else (),
            sources=merged_sources(spec.sources, device.citations),
            notes=case.notes(str(labels.flat[0])) if single else (),
            not_modelled=NOT_MODELLED,
        )


@dataclass(frozen=True, slots=True)
class _Case:
    """One model on one machine with one engine: everything but the numbers."""

    model: Transformer
    device: Device
    engine: Engine
    kv: str | None
    load: str = "static"
    intervals: bool = True

    def precision(self, label: str) -> Precision:
        return as_shipped(self.model, resolve(label, self.device.arithmetic, kv=self.kv))

    def phases(self, label: str, a: Mapping[str, FloatArray]) -> tuple[Phase, Phase, Parallel]:
        """Prefill and decode of one replica, with `batch / (dp · pp)` sequences in each pipeline stage at a time."""
        precision = self.precision(label)
        parallel = Parallel(a["tp"], a["pp"], a["ep"], a["dp"])
        local = np.ceil(a["batch_size"] / (a["dp"] * a["pp"]))
        machine = Machine(self.device, self.engine.kernels)
        resident = model_weight_bytes(self.model, precision) / float(np.max(parallel.devices))
        layers = float(sum(b.count for b in self.model.blocks))
        settings: dict[str, Any] = {
            "machine": machine,
            "engine": self.engine,
            "layers": layers,
            "resident_bytes": resident,
        }
        prefill = lower_prefill(self.model, batch=local, prompt=a["seq_len"], precision=precision, parallel=parallel)
        context = a["seq_len"] + (a["output_len"] + 1) / 2
        decode = lower_decode(self.model, batch=local, context=context, precision=precision, parallel=parallel)
        return run_phase(prefill, **settings), run_phase(decode, sequences=local, **settings), parallel

    def values(self, label: str, a: Mapping[str, FloatArray]) -> Values:
        prefill, decode, parallel = self.phases(label, a)
        out = self._times(prefill, decode, a, parallel)
        out |= self._memory(self.precision(label), a, parallel)
        out |= self._use("prefill", prefill, label) | self._use("decode", decode, label)
        out |= self._expense(prefill, decode, out, parallel)
        if self.load != "static":
            out |= loaded_values(self, label, a, out["max_batch_size"], self.load)
        return out

    def _times(self, prefill: Phase, decode: Phase, a: Mapping[str, FloatArray], parallel: Parallel) -> Values:
        # Micro-batches follow one another through the stages: the batch is done when the last one leaves the last stage.
        fill = self.pipeline_fill(a, parallel)
        steps = np.maximum(a["output_len"] - 1, 0)
        out: Values = {}
        for prefix, ttft, itl in (
            ("", prefill.time_s * fill, decode.time_s),
            # The bound lets the chunks of one prompt follow one another through the stages, too.
            ("light_", prefill.light_s / parallel.pp, decode.light_s),
        ):
            out[f"{prefix}ttft_s"], out[f"{prefix}itl_s"] = ttft, itl
            out[f"{prefix}throughput_tokens_per_s"] = a["batch_size"] / itl
            out[f"{prefix}user_tokens_per_s"] = 1.0 / itl
            out[f"{prefix}request_s"] = ttft + steps * itl
        for name, phase in (("ttft", prefill), ("itl", decode)) if self.intervals else ():
            for key, log_q in zip(("low90", "low50", "high50", "high90"), phase.log_q, strict=True):
                out[f"{name}_{key}_s"] = np.maximum(out[f"{name}_s"] * np.exp(log_q), out[f"light_{name}_s"])
        return out

    def pipeline_fill(self, a: Mapping[str, FloatArray], parallel: Parallel) -> FloatArray:
        """Time of a prefill through all stages over that of one micro-batch; long prompts pass in pieces of their own."""
        waves = np.minimum(np.ceil(a["batch_size"] / parallel.dp), parallel.pp)
        pieces = np.maximum(np.ceil(a["seq_len"] / self.engine.wave_tokens), 1.0)
        return np.asarray((parallel.pp + waves * pieces - 1) / (parallel.pp * pieces))

    def _memory(self, precision: Precision, a: Mapping[str, FloatArray], parallel: Parallel) -> Values:
        sequences = np.ceil(a["batch_size"] / parallel.dp)
        print_ = self.footprint(precision, sequences, a, parallel)
        capacity = self.device.capacity_bytes
        one = print_.kv_bytes / sequences
        free = capacity * self.engine.memory_share - print_.weights_bytes - print_.workspace_bytes
        free = free - np.minimum(print_.activation_bytes, free)
        per_replica = np.floor(np.maximum(free, 0.0) / np.maximum(one, 1.0))
        return {
            "feasible": print_.total_bytes <= capacity,
            "weights_bytes": np.asarray(model_weight_bytes(self.model, precision)),
            "kv_cache_bytes": print_.kv_bytes * parallel.devices,
            "device_weights_bytes": print_.weights_bytes,
            "device_kv_bytes": print_.kv_bytes,
            "device_activation_bytes": print_.activation_bytes,
            "device_workspace_bytes": print_.workspace_bytes,
            "device_memory_bytes": print_.total_bytes,
            "memory_utilization": print_.total_bytes / capacity,
            "max_batch_size": per_replica * parallel.dp,
            "devices": parallel.devices,
            "capacity_bytes": np.asarray(capacity),
        }

    def footprint(
        self, precision: Precision, sequences: FloatArray, a: Mapping[str, FloatArray], parallel: Parallel
    ) -> Footprint:
        return footprint(
            self.model,
            self.device,
            self.engine,
            precision,
            sequences=sequences,
            tokens=a["seq_len"] + a["output_len"],
            prompt=np.minimum(a["seq_len"], PREFILL_CHUNK_TOKENS),
            parallel=parallel,
        )

    def _use(self, name: str, phase: Phase, label: str) -> Values:
        """How well a phase uses the machine: its bottleneck, arithmetic intensity, MFU and MBU."""
        peak = self.device.peak(get_format(self.precision(label).activations).arithmetic)
        bandwidth = self.device.bandwidth_bytes_per_s
        return {
            f"{name}_bottleneck": phase.bottleneck,
            f"{name}_intensity_flops_per_byte": phase.intensity_flops_per_byte,
            f"{name}_mfu": phase.flops / (phase.time_s * peak),
            f"{name}_mbu": phase.bytes / (phase.time_s * bandwidth),
            f"{name}_ridge_flops_per_byte": np.asarray(peak / bandwidth),
        }

    def _expense(self, prefill: Phase, decode: Phase, out: Values, parallel: Parallel) -> Values:
        """Energy and money of all devices, where the machine's power limit and price are known."""
        expense: Values = {}
        devices = parallel.devices
        for name, phase, tokens in (
            ("prefill", prefill, None),
            ("decode", decode, out["throughput_tokens_per_s"]),
        ):
            power = phase_power_w(self.device, phase)
            if power is None:
                continue
            expense[f"{name}_power_w"] = power * devices
            if tokens is None:
                expense["prefill_energy_j"] = power * devices * out["ttft_s"]
            else:
                expense["energy_j_per_token"] = power * devices / tokens
        if self.device.hourly_usd is not None:
            per_second = self.device.hourly_usd * devices / _SECONDS_PER_HOUR
            expense["cost_usd_per_mtoken"] = per_second / out["throughput_tokens_per_s"] * _MEGA
        return expense

    def rows(self, label: str, a: Mapping[str, FloatArray]) -> tuple[Any, ...]:
        prefill, decode, _ = self.phases(label, a)
        return prefill.rows("prefill") + decode.rows("decode")

    def about(self, labels: npt.NDArray[np.str_]) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "hardware": self.device.name,
            "engine": self.engine.name,
            "precision": ", ".join(self.precision(str(x)).label() for x in np.unique(labels)),
        }

    def notes(self, label: str) -> tuple[str, ...]:
        """What was assumed that the caller did not say."""
        precision = self.precision(label)
        wanted = get_format(precision.activations).arithmetic
        used = self.device.arithmetic(wanted)
        notes = [] if used == wanted else [f"{self.device.name} computes {wanted} in {used}"]
        if get_format(precision.weights).bits < get_format(precision.activations).bits:
            notes.append(f"weights are dequantised to {precision.activations}: fewer bytes, the same arithmetic roof")
        return tuple(notes)


__all__ = ["BOUNDS", "ServingModel", "ServingResult"]
