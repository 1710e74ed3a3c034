"""`SensitivitySolver` and `SynthesisSolver`: what binds a pass on a machine, and what machine a pass in a given time needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError
from waferline.machines.hardware import load_hardware
from waferline.predict.result import Field, Result
from waferline.predict.single import SingleNodeModel
from waferline.search.hardware_change import scaled
from waferline.units import to_si
from waferline.workloads.load import load_model
from waferline.workloads.scenario import real

_ANY = "h100"  # arithmetic and weights of a pass are the same on any machine
_PARTS = {"peak_flops": "flops", "memory_bandwidth": "bandwidth", "memory_capacity": "capacity"}


class SensitivityResult(Result):
    """What `SensitivitySolver.solve` answers. `sensitivities`: part of the machine → change of the latency, as a share of it."""

    baseline_latency = Field("latency_s", "Of a pass on the machine as it is")
    perturbation_pct = Field("perturbation_pct", "By how many per cent each part was made larger", "")
    binding_constraint = Field("binding_constraint", "The part whose change moves the latency most")
    peak_flops = Field("peak_flops", "Change of the latency with the peak rates, as a share of it")
    memory_bandwidth = Field("memory_bandwidth", "The same with the bandwidth")
    memory_capacity = Field(
        "memory_capacity", "The same with the capacity, which holds more and computes nothing faster"
    )

    @property
    def sensitivities(self) -> dict[str, float]:
        return {part: float(self[part]) for part in _PARTS}


@dataclass(frozen=True, slots=True)
class SensitivitySolver:
    """`sensitivity` tells more: elasticities of every time and price."""

    def solve(
        self, model: Any, hardware: Any, precision: str = "fp16", perturbation_pct: float = 10.0, **options: Any
    ) -> SensitivityResult:
        """One pass again with each part `perturbation_pct` per cent larger; `options` as in `SingleNodeModel.solve`.

        Raises: InvalidInputError for no change, else as `SingleNodeModel.solve`.
        """
        spec, device = load_model(model), load_hardware(hardware)
        factor = 1.0 + float(real("perturbation_pct", perturbation_pct, least=-99.0, most=1e4)) / 100.0
        if factor == 1.0:
            raise InvalidInputError("perturbation_pct of 0 changes nothing")
        time = lambda machine: float(SingleNodeModel().solve(spec, machine, 1, precision, **options)["latency_s"])  # noqa: E731
        base = time(device)
        moved = {name: time(scaled(device, part, factor)) / base - 1.0 for name, part in _PARTS.items()}
        binding = max(moved, key=lambda name: abs(moved[name]))
        pct = float(perturbation_pct)
        values: dict[str, Any] = {
            "latency_s": base,
            "perturbation_pct": pct,
            "binding_constraint": np.asarray(binding),
            **moved,
        }
        return SensitivityResult(values=values)


class SynthesisResult(Result):
    """What `SynthesisSolver.solve` answers. Every field broadcasts."""

    required_bw = Field("required_bytes_per_s", "Bandwidth that reads every weight once in the time")
    required_flops = Field("required_flops_per_s", "Peak whose share `efficiency` does the arithmetic in the time")
    required_memory = Field("required_bytes", "What the weights take")
    model_size = Field("model_bytes", "The same")
    compute_memory_ratio = Field("required_flops_per_byte", "The one over the other: where its roofs should meet")
    target_latency = Field("target_s", "The time that was asked for")
    total_ops = Field("total_flops", "Arithmetic of the pass", "")


@dataclass(frozen=True, slots=True)
class SynthesisSolver:
    """The roofline read backwards (Williams et al. 2009): bounds on a machine, not its description; `solve` scales a real one."""

    def solve(self, model: Any, target_latency: Any, precision: str = "fp16", efficiency: Any = 0.5) -> SynthesisResult:
        """What a pass of one input needs at least to end in `target_latency` (seconds, or with a unit).

        efficiency: share of the peak that is reached, 0 to 1. Raises: InvalidInputError, as `load_model`.
        """
        spec, given = load_model(model), to_si("target_latency", target_latency, "second")
        seconds = real("target_latency", given, least=1e-12)
        share = real("efficiency", efficiency, least=1e-3, most=1.0)
        solved = SingleNodeModel().solve(spec, _ANY, 1, precision)
        flops = float(sum(np.sum(row.flops) for row in solved.operators))
        weights = float(solved["weights_bytes"])
        rate, bandwidth = flops / (seconds * share), weights / seconds
        values: dict[str, Any] = {
            "required_bytes_per_s": bandwidth,
            "required_flops_per_s": rate,
            "required_bytes": np.asarray(weights),
            "model_bytes": np.asarray(weights),
            "required_flops_per_byte": rate / bandwidth,
            "target_s": seconds,
            "total_flops": np.asarray(flops),
        }
        return SynthesisResult(
            values=values,
            not_modelled=("activations and caches beside the weights", "latencies of launches and links"),
        )
