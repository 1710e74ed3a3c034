"""Operators added up into one phase: a prefill, a decode step, a forward or a training pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.predict.efficiency.intervals import Regime
from waferline.predict.engine import Engine
from waferline.predict.result import OperatorRow
from waferline.predict.roofline import BOUNDS, Machine, Timed, time_operator
from waferline.workloads.operator import Operator

_BOUND_BYTES = np.array(BOUNDS, dtype="U8")
QUANTILES = ("q05", "q25", "q75", "q95")


@dataclass(frozen=True, slots=True)
class Phase:
    """One pass on one device group. Arrays over scenarios.

    time_s, light_s: expected seconds and the speed-of-light bound. compute_s, memory_s, link_s, overhead_s: the roofs'
    own sums (they overlap, so they do not add up to `time_s`). flops, bytes: of one device. log_q: quantiles of
    log(measured / predicted) of the whole pass, from those of its operators.
    """

    time_s: FloatArray
    light_s: FloatArray
    compute_s: FloatArray
    memory_s: FloatArray
    link_s: FloatArray
    overhead_s: FloatArray
    flops: FloatArray
    bytes: FloatArray
    log_q: tuple[FloatArray, ...]
    tier: str
    timed: tuple[Timed, ...]

    @property
    def bottleneck(self) -> npt.NDArray[np.str_]:
        """What takes most of the pass: compute, memory, link or overhead."""
        roofs = (self.compute_s, self.memory_s, self.link_s, self.overhead_s)
        longest, code = roofs[0], np.zeros((), dtype=np.int8)
        for i, roof in enumerate(roofs[1:], start=1):
            code = np.where(roof > longest, np.int8(i), code)
            longest = np.maximum(roof, longest)
        return np.asarray(_BOUND_BYTES[code])

    @property
    def intensity_flops_per_byte(self) -> FloatArray:
        return self.flops / np.maximum(self.bytes, 1.0)

    def rows(self, phase: str) -> tuple[OperatorRow, ...]:
        """The operators as rows of `explain`."""
        return tuple(
            OperatorRow(
                phase=phase,
                name=t.operator.name,
                kind=t.operator.kind,
                count=t.operator.count,
                time_s=t.operator.count * t.expected_s,
                light_s=t.operator.count * t.light_s,
                flops=t.operator.count * t.operator.flops,
                bytes=t.operator.count * t.operator.bytes,
                bound=np.asarray(np.array(BOUNDS)[t.bound]),
                tier=t.tier,
            )
            for t in self.timed
        )


_TIERS = ("calibrated", "transferred", "spec only")  # best known first; a pass is as well known as its worst large part
_LARGE_SHARE = 0.1


def run_phase(
    operators: Sequence[Operator],
    machine: Machine,
    engine: Engine,
    *,
    layers: float,
    resident_bytes: float = np.inf,
    sequences: FloatArray | None = None,
) -> Phase:
    """Time every operator on the machine inside the engine and add up, with the engine's host time for `layers` layers.

    `sequences`: of a decode step, the sequences it adds a token to; None says that the pass is no decode step.
    """
    engine = engine.running_on(machine.device)
    alone = (time_operator(op, machine, resident_bytes=resident_bytes) for op in operators)
    timed = tuple(_inside(t, machine, engine, decode=sequences is not None) for t in alone)
    host_s = _host_s(timed, engine, layers, sequences)
    total = _sum(t.operator.count * t.expected_s for t in timed)
    compute_s = _sum(t.operator.count * t.compute_s for t in timed if t.operator.kind != "collective")
    memory_s = _sum(t.operator.count * t.memory_s for t in timed)
    link_s = _sum(t.operator.count * t.link_s for t in timed)
    busy = _sum(t.operator.count * np.maximum(np.maximum(t.compute_s, t.memory_s), t.link_s) for t in timed)
    residual = engine.residual.get("prefill" if sequences is None else "decode")
    return Phase(
        time_s=total + host_s,
        light_s=_sum(t.operator.count * t.light_s for t in timed),
        compute_s=compute_s,
        memory_s=memory_s,
        link_s=link_s,
        overhead_s=total + host_s - busy,
        flops=_sum(t.operator.count * t.operator.flops for t in timed),
        bytes=_sum(t.operator.count * t.operator.bytes for t in timed),
        log_q=tuple(np.asarray(q) for q in residual) if residual else _log_quantiles(timed, total + host_s),
        tier=_tier(timed, total),
        timed=timed,
    )


def _inside(t: Timed, machine: Machine, engine: Engine, *, decode: bool) -> Timed:
    """The operator as the engine runs it, from what it takes alone."""
    expected_s = engine.operator_s(
        t.operator.kind,
        t.expected_s,
        t.light_s,
        decode=decode,
        flops=t.operator.flops,
        moved_bytes=t.operator.bytes,
        unit_clocks=machine.device.units * machine.device.clock_hz,
    )
    return replace(t, expected_s=expected_s)


def _host_s(timed: Sequence[Timed], engine: Engine, layers: float, sequences: FloatArray | None) -> FloatArray:
    expert_layers = sum(float(np.max(t.operator.count)) for t in timed if t.operator.kind == "expert_gemm")
    launched = (t.operator.count * (t.expected_s > 0) for t in timed)  # a collective of one rank is none
    return engine.host_s(
        layers=layers,
        kernels=_sum(launched),
        expert_layers=expert_layers,
        sequences=np.zeros(()) if sequences is None else sequences,
    )


def _sum(terms: Iterable[FloatArray]) -> FloatArray:
    """Sum by shape first, so that a term that does not vary with a large axis is added once, not everywhere."""
    groups: dict[tuple[int, ...], FloatArray] = {}
    for term in terms:
        key = np.shape(term)
        groups[key] = groups[key] + term if key in groups else np.asarray(term, dtype=np.float64)
    total: FloatArray = np.zeros(())
    for key in sorted(groups, key=lambda k: int(np.prod(k))):
        total = total + groups[key]
    return total


def typical(values: FloatArray) -> float:
    """The value in the middle of the scenarios, as an example of their size: a median would sort them all."""
    values = np.asarray(values)
    return float(values.flat[values.size // 2])


def _regime(regimes: Sequence[Regime], typical_s: float) -> Regime:
    return next((r for r in regimes if typical_s < r.below_s), regimes[-1])


def _log_quantiles(timed: Sequence[Timed], total_s: FloatArray) -> tuple[FloatArray, ...]:
    """Quantiles of the log error of the sum: operators of one pass err together, so shares weigh their quantiles."""
    out = []
    weights = [(t, _regime(t.record.residual, typical(t.expected_s))) for t in timed]
    for name in QUANTILES:
        out.append(_sum(t.operator.count * t.expected_s * getattr(r, name) for t, r in weights) / total_s)
    return tuple(out)


def _tier(timed: Sequence[Timed], total: FloatArray) -> str:
    """The worst tier among operators that take a large share of the typical scenario."""
    whole = typical(total) or 1.0
    shares = dict.fromkeys(_TIERS, 0.0)
    for t in timed:
        shares[t.tier] += typical(t.operator.count) * typical(t.expected_s) / whole
    return next((tier for tier in reversed(_TIERS) if shares[tier] > _LARGE_SHARE), _TIERS[0])
