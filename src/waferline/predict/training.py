"""`TrainingModel`: one optimizer step of a transformer under tensor, pipeline, expert and (sharded) data parallelism."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import anywhere, ceil, exp, maximum, minimum, where
from waferline.errors import InvalidInputError, unknown
from waferline.formats import get_format, resolve
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.engine import Engine, get_engine, with_memory_share
from waferline.predict.exchange import collective_s, exposed_s
from waferline.predict.kinds import backward_share
from waferline.predict.phase import INTERVALS, Phase, run_phase
from waferline.predict.result import Field, Result, WhenRead, merged_sources
from waferline.predict.roofline import machine_for
from waferline.predict.training_stack import ATTENTION, Stack, beside_host, get_stack
from waferline.workloads.load import load_model
from waferline.workloads.lower import lower_forward
from waferline.workloads.operator import Operator
from waferline.workloads.scenario import Parallel, common_shape, real, whole
from waferline.workloads.spec import SoftmaxAttention, Transformer
from waferline.workloads.weights import weight_elements

_WEIGHTED = (
    "gemm",
    "moe",
    "conv",
)  # whose backward pass has a product for the gradient of the weights, as large as the forward's
_LOGIT_BYTES = 4.0
SHARDING = ("none", "zero1", "fsdp")

NOT_MODELLED = (
    "data loading, checkpoints, evaluation and restarts",
    "stragglers and network congestion",
    "context parallelism and overlap of tensor-parallel collectives",
)


class TrainingResult(Result):
    """What `TrainingModel.solve` answers. Every field broadcasts over scenarios."""

    step_time = Field("step_time_s", "One optimizer step")
    throughput = Field("total_tokens_per_s", "Trained tokens per second, all devices")
    mfu = Field("mfu", "Model FLOPs over peak, attention counted without the causal mask, as published tables do")
    causal_mfu = Field("causal_mfu", "The same with attention counted as causal")
    hfu = Field("hfu", "The same with what is recomputed")
    tflops_per_device = Field("tflops_per_device", "Model TFLOP/s of one device (as `mfu`)")
    feasible = Field("feasible", "True where weights, gradients, optimizer state and activations fit")
    memory_per_device = Field("device_memory_bytes", "That, in bytes")
    bottleneck = Field("bottleneck", "compute, memory, link or overhead")


@dataclass(frozen=True, slots=True)
class TrainingModel:
    """Closed-form training step. Sources: `catalog/training.yaml` (Narayanan 2021, Korthikanti 2022, ZeRO)."""

    def solve(
        self,
        model: Any,
        hardware: Any,
        seq_len: Any,
        global_batch: Any,
        micro_batch: Any = 1,
        precision: str = "bf16",
        *,
        tp: Any = 1,
        pp: Any = 1,
        ep: Any = 1,
        dp: Any = 1,
        virtual_stages: Any = 1,
        slices: Any = 1,
        recompute: str = "selective",
        sharding: str = "zero1",
        trains: str = "weights",
        stack: str | Stack | None = None,
        memory_share: float | None = None,
    ) -> TrainingResult:
        """Time of one step of `global_batch` sequences of `seq_len` tokens, in micro-batches of `micro_batch` per replica.

        `recompute`: none, selective (attention), half (every second matrix product) or full. `sharding`: none, zero1 (optimizer
        state over `dp`) or fsdp (everything over `dp`; weights gathered for every pass). `virtual_stages` interleaves pipeline
        stages. `slices`: equal groups that only a data centre network joins; what is sharded stays inside one, and `dp` counts
        all. `stack`: the framework whose kernels, host and measured efficiency apply (`catalog/training.yaml`,
        `training_stacks.yaml`), by name or as a `Stack`; by default the usual one for the precision. `memory_share`: of a
        device's memory that the job takes. `trains`: weights, or adapters of low rank beside frozen ones (LoRA).
        Raises: UnknownNameError, InvalidInputError, UnsupportedError.
        """
        spec, device = load_model(model), load_hardware(hardware)
        if not isinstance(spec, Transformer):
            raise InvalidInputError(f"{spec.name} is not a transformer", hint='use SingleNodeModel(phase="train")')
        facts = read_packaged("training.yaml")
        if recompute not in facts["recompute"]:
            raise unknown("recompute mode", recompute, facts["recompute"])
        if sharding not in SHARDING:
            raise unknown("sharding mode", sharding, SHARDING)
        if trains not in facts["trains"]:
            raise unknown("part to train", trains, facts["trains"])
        a = {
            "seq_len": whole("seq_len", spec.fixed_tokens or seq_len),
            "global_batch": whole("global_batch", global_batch),
            "micro_batch": whole("micro_batch", micro_batch),
            "virtual_stages": whole("virtual_stages", virtual_stages),
            "slices": whole("slices", slices),
        }
        parallel = Parallel.of(tp, pp, ep, dp)
        if anywhere(np.asarray(parallel.dp % a["slices"] != 0)):
            raise InvalidInputError(f"slices must divide dp, the replicas: {np.ravel(a['slices'])[0]:g} do not")
        common_shape({**a, "tp": parallel.tp, "pp": parallel.pp, "dp": parallel.dp, "ep": parallel.ep})
        bits = get_format(resolve(precision, device.arithmetic).activations).bits
        runs = stack if isinstance(stack, Stack) else get_stack(stack, device, bits)
        engine = get_engine("static")
        if memory_share is not None:
            engine = with_memory_share(engine, float(real("memory_share", memory_share, least=0.01, most=1.0)))
        trained = float(facts["trains"][trains])
        step = _Step(spec, device, engine, runs, precision, recompute, sharding, trained, parallel, a, facts)
        forward = step.forward()
        return TrainingResult(
            values=step.values(forward),
            coords={k: v for k, v in a.items() if np.size(v) > 1},
            about={
                "model": spec.name,
                "hardware": device.name,
                "engine": runs.name,
                "precision": precision,
                "recompute": recompute,
                "sharding": sharding,
                **({} if trained == 1.0 else {"trains": trains}),
            },
            operators=WhenRead(lambda: forward.rows("train")),
            sources=WhenRead(lambda: merged_sources(spec.sources, device.citations)),
            not_modelled=NOT_MODELLED,
        )


@dataclass(frozen=True, slots=True)
class _Step:
    model: Transformer
    device: Device
    engine: Engine
    stack: Stack
    precision: str
    recompute: str
    sharding: str
    trained: float  # share of the weights that have gradients
    parallel: Parallel
    a: Mapping[str, Floats]
    facts: Mapping[str, Any]

    def forward(self) -> Phase:
        """One micro-batch forward through all layers, with each operator's count raised to forward + backward + recompute."""
        formats = resolve(self.precision, self.device.arithmetic)
        operators = lower_forward(
            self.model,
            batch=self.a["micro_batch"],
            tokens=self.a["seq_len"],
            precision=formats,
            parallel=self.parallel,
            training=True,
        )
        machine = machine_for(self.device, self.engine.kernels)
        layers = float(sum(b.count for b in self.model.blocks))
        phase = run_phase([self._trained(op) for op in operators], machine, self.engine, layers=3 * layers, keep=True)
        alone_s = sum(t.operator.count * t.expected_s for t in phase.timed if t.operator.kind in ATTENTION)
        others_s, attention_s = self.stack.operators * (phase.time_s - alone_s), self.attention_s(phase)
        device_s = maximum(others_s + attention_s, phase.light_s)
        return replace(phase, time_s=beside_host(device_s, self.stack.host_s(phase)))

    def attention_s(self, phase: Phase) -> Floats:
        """Expected time of attention's core in one micro-batch."""
        machine, formats = (
            machine_for(self.device, self.engine.kernels),
            resolve(self.precision, self.device.arithmetic),
        )
        return self.stack.attention_s(phase, machine, formats, self._again("attention"))

    def _again(self, part: str) -> float:
        return float(self.facts["recompute"][self.recompute][part])

    def _trained(self, op: Operator) -> Operator:
        again = self._again("attention" if op.kind in ATTENTION else "others")
        frozen = (1.0 - self.trained) * (op.kind in _WEIGHTED)
        # Norms, activation functions and the optimizer write what is multiplied in its format; a loss or a bias balances experts.
        shape = {**op.shape, "narrow": 1.0, "load": 1.0} if op.kind in _WEIGHTED else op.shape
        return replace(op, count=op.count * (1.0 + backward_share(op.kind) - frozen + again), shape=shape)

    def values(self, forward: Phase) -> dict[str, npt.NDArray[Any]]:
        p, a = self.parallel, self.a
        micro_batches = maximum(ceil(a["global_batch"] / (p.dp * a["micro_batch"])), 1.0)
        bubble = (p.pp - 1) / a["virtual_stages"]
        compute_s = forward.time_s / p.pp * (micro_batches + bubble)
        lost = self.facts["slices"]["per_doubling"] * np.log2(a["slices"])
        exchange_s = self._exchange_s(compute_s, micro_batches) + compute_s * lost / (1.0 - minimum(lost, 0.5))
        optimizer_s = self._optimizer_s()
        step_s = compute_s + exchange_s + optimizer_s
        tokens = a["global_batch"] * a["seq_len"]
        devices = p.devices
        peak = self.device.peak(get_format(resolve(self.precision, self.device.arithmetic).activations).arithmetic)
        causal, full, again = self._model_flops()
        rate = lambda flops: flops / (step_s * devices * peak)  # noqa: E731
        memory = self._memory_bytes(micro_batches)
        light_s = forward.light_s / p.pp * micro_batches
        out = {
            "step_time_s": step_s,
            "light_step_time_s": light_s,
            "total_tokens_per_s": tokens / step_s,
            "samples_per_s": a["global_batch"] / step_s,
            "mfu": rate(full),
            "causal_mfu": rate(causal),
            "hfu": rate(full + again),
            "tflops_per_device": full / step_s / devices / 1e12,
            "compute_s": compute_s,
            "attention_s": self.attention_s(forward) / p.pp * (micro_batches + bubble),
            "host_s": self.stack.host_s(forward) / p.pp * (micro_batches + bubble),
            "exchange_s": exchange_s,
            "optimizer_s": optimizer_s,
            "bubble_share": bubble / (micro_batches + bubble),
            "usable_bytes": self.device.capacity_bytes * self.engine.memory_share,
            "feasible": memory <= self.device.capacity_bytes * self.engine.memory_share,
            "device_memory_bytes": memory,
            "bottleneck": forward.bottleneck,
            "tier": forward.tier,
        }
        quantiles = self.stack.log_q or forward.log_q
        for key, log_q in zip(INTERVALS, quantiles, strict=True):
            out[f"step_time_{key}_s"] = maximum(step_s * exp(log_q), out["light_step_time_s"])
        return {name: np.asarray(value) for name, value in out.items()}

    def _local_parameters(self) -> Floats:
        """Parameters of one device before data-parallel sharding."""
        p, parts = self.parallel, weight_elements(self.model)
        experts = parts["experts"] / (maximum(p.ep, 1.0) * maximum(p.tp / p.ep, 1.0) * p.pp)
        ends = parts["embedding"] + parts["head"]
        return parts["blocks"] / (p.tp * p.pp) + experts + ends / (p.tp * p.pp)

    def _exchange_s(self, compute_s: Floats, micro_batches: Floats) -> Floats:
        """Data-parallel traffic that the passes do not hide: gradients once; with FSDP weights for every pass too."""
        formats = resolve(self.precision, self.device.arithmetic)
        payload = self._local_parameters() * self.facts["adam"]["gradient_bytes"]
        # Data-parallel ranks sit beyond the tensor-parallel domain: they share its nodes' network.
        replicas = self.parallel.dp / self.a["slices"]
        ranks = replicas * self.parallel.tp
        inside = ranks <= self.device.reach("scale-up")
        group = where(inside, replicas, where(self.parallel.dp > 1, maximum(ranks, 2.0), 1.0))
        taken = lambda name, size: collective_s(name, self.device, self.engine, formats, size, group)  # noqa: E731
        exposed = exposed_s(taken("all_reduce", payload * self.trained), compute_s / micro_batches)
        if self.sharding == "fsdp":
            # A pipeline stage keeps its weights gathered over its micro-batches (ZeRO-2); a lone stage gathers each time.
            times = where(self.parallel.pp > 1, 1.0, micro_batches)
            exposed = exposed + exposed_s(2.0 * taken("all_gather", payload) * times, compute_s, "parameters")
        return exposed

    def _optimizer_s(self) -> Floats:
        shards = self.parallel.dp if self.sharding != "none" else 1.0
        moved = self._local_parameters() * self.trained / shards * self.facts["adam"]["moved_bytes"]
        return moved / self.device.bandwidth_bytes_per_s

    def _memory_bytes(self, micro_batches: Floats) -> Floats:
        """Model states (ZeRO section 3) and activations (Korthikanti equation 4) of the fullest stage."""
        adam, p = self.facts["adam"], self.parallel
        shards = p.dp if self.sharding != "none" else 1.0
        whole_shards = p.dp if self.sharding == "fsdp" else 1.0
        parameters = self._local_parameters()
        states = parameters * (
            (adam["weights_bytes"] + adam["gradient_bytes"] * self.trained) / whole_shards
            + adam["state_bytes"] * self.trained / shards
        )
        layers = sum(b.count for b in self.model.blocks)
        in_flight = minimum(micro_batches, p.pp)
        per_layer = self.a["micro_batch"] * self.a["seq_len"] * self.model.hidden_size
        activations = per_layer * layers / p.pp * in_flight * self.facts["activation_bytes"][self.recompute] / p.tp
        # The loss of a lone stage keeps its logits in fp32 (Korthikanti, section 4.3); the first of many stages has none.
        logits = self.a["micro_batch"] * self.a["seq_len"] * self.model.vocab_size * _LOGIT_BYTES / p.tp
        return states + activations + where(p.pp > 1, 0.0, logits) + self.engine.reserved_bytes

    def _model_flops(self) -> tuple[Floats, Floats, Floats]:
        """(causal, full) model FLOPs of a step: three times the forward's (two of frozen weights), and what is computed again."""
        formats = resolve(self.precision, self.device.arithmetic)
        one = lower_forward(
            self.model, batch=1, tokens=self.a["seq_len"], precision=formats, training=True, parallel=Parallel()
        )
        counted = [op for op in one if op.kind not in ("norm", "elementwise", "softmax", "gather")]
        attention = sum(op.count * op.flops for op in counted if op.kind in ATTENTION)
        others = sum(op.count * op.flops for op in counted if op.kind not in ATTENTION)
        whole_attention = attention * (2.0 if self._is_causal() else 1.0)
        passes = (2.0 + self.trained) * self.a["global_batch"]
        again = self._again("attention") * whole_attention + self._again("others") * others
        return (
            passes * (attention + others),
            np.asarray(passes * (whole_attention + others)),
            again * self.a["global_batch"],
        )

    def _is_causal(self) -> bool:
        mixers = [b.mixer for b in self.model.blocks if isinstance(b.mixer, SoftmaxAttention)]
        return all(m.causal for m in mixers)
