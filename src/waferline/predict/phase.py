"""Operators added up into one phase: a prefill, a decode step, a forward or a training pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from waferline.arrays import AnyArray, FloatArray, Floats
from waferline.elementwise import maximum, minimum, where
from waferline.predict.efficiency.intervals import QUANTILES, Regime, shares
from waferline.predict.engine import HEAD, Engine, issued_in
from waferline.predict.operator_row import OperatorRow
from waferline.predict.result import WhenRead
from waferline.predict.roofline import BOUNDS, Machine, Timed, time_operator
from waferline.workloads.operator import Operator

TIERS = ("calibrated", "transferred", "spec only")  # best known first; a pass is as well known as its worst large part
INTERVALS = ("low90", "low50", "high50", "high90")  # names of the quantiles of `Phase.log_q`
_LARGE_SHARE = 0.1
# How much farther whole passes lie on machines that no run of the engine was fitted on, by tier: with machines left out, the
# quantiles of the others cover 91 and 94 % where operators are calibrated or transferred, 58 % on sheets alone (twice as far: 75).
STRETCH = np.array([1.0, 1.0, 2.0])
_BOUND_NAMES = np.array(BOUNDS, dtype="U8")
_TIER_NAMES = np.array(TIERS)


@dataclass(frozen=True, slots=True)
class Phase:
    """One pass on one device group. Floats or arrays over scenarios.

    time_s, light_s: expected seconds and the speed-of-light bound. compute_s, memory_s, link_s, overhead_s: the roofs'
    own sums (they overlap, so they do not add up to `time_s`). host_s: what the CPU beside the device runs. flops, bytes: of
    one device. log_q: quantiles of
    log(measured / predicted) of the whole pass, from those of its operators; empty where nobody asked. tier: how well its
    large parts are known. timed: the operators inside the engine, where they were asked for.
    """

    time_s: Floats
    light_s: Floats
    compute_s: Floats
    memory_s: Floats
    link_s: Floats
    overhead_s: Floats
    host_s: Floats
    flops: Floats
    bytes: Floats
    log_q: tuple[Floats, ...]
    tier: str | AnyArray
    timed: Sequence[Timed] = ()

    @property
    def bottleneck(self) -> str | AnyArray:
        """What takes most of the pass: compute, memory, link, overhead or the host."""
        roofs = (self.compute_s, self.memory_s, self.link_s, self.overhead_s, self.host_s)
        longest: Floats = roofs[0]
        code: Any = np.int8(0)
        for i, roof in enumerate(roofs[1:], start=1):
            code = np.where(roof > longest, np.int8(i), code)
            longest = maximum(roof, longest)
        return _BOUND_NAMES[code]

    @property
    def intensity_flops_per_byte(self) -> Floats:
        return self.flops / maximum(self.bytes, 1.0)

    def rows(self, phase: str) -> tuple[OperatorRow, ...]:
        """The operators as rows of `explain`."""
        return tuple(
            OperatorRow(
                phase=phase,
                name=t.operator.name,
                kind=t.operator.kind,
                count=np.asarray(t.operator.count),
                time_s=np.asarray(t.operator.count * t.expected_s),
                light_s=np.asarray(t.operator.count * t.light_s),
                flops=np.asarray(t.operator.count * t.operator.flops),
                bytes=np.asarray(t.operator.count * t.operator.bytes),
                bound=np.asarray(_BOUND_NAMES[t.bound]),
                tier=t.tier,
            )
            for t in self.timed
        )


class _Sum:
    """A sum over operators. Arrays are kept by shape, so that what does not vary along a large axis is added once."""

    __slots__ = ("arrays", "number")

    def __init__(self) -> None:
        self.number = 0.0
        self.arrays: dict[tuple[int, ...], FloatArray] = {}

    def add(self, count: Floats, each: Floats) -> None:
        if type(each) is float and each == 0.0:
            return  # nothing that counts crosses a link on one device
        term = count * each
        if type(term) is float:
            self.number += term
            return
        term = np.asarray(term)
        held = self.arrays.get(term.shape)
        if held is None:
            self.arrays[term.shape] = term
        else:
            held += term

    def total(self) -> Floats:
        out: Floats = self.number
        for shape in sorted(self.arrays, key=prod):
            out = out + self.arrays[shape]
        return out


@dataclass(frozen=True, slots=True)
class Runner:
    """A machine with the engine whose kernels run on it.

    stages: of a host, how many pipeline stages it runs operators for, one after the other. splits: of a host, whether the pass
    goes to and fro between it and the device: no graph of the whole pass can be replayed then.
    """

    machine: Machine
    engine: Engine
    stages: Floats = 1.0
    splits: Any = False

    def without_graph(self, engine: Engine) -> Engine:
        """`engine` where it cannot replay a graph: operators take what they take alone."""
        alone = where(self.splits, max(engine.decode_excess, 1.0), engine.decode_excess)
        return replace(engine, decode_excess=alone)

    def seconds(self, t: Timed, *, decode: bool) -> Floats:
        """Seconds of one operator inside the engine, weights that come over the host's link included."""
        op, device = t.operator, self.machine.device
        if op.place == "link":
            return t.expected_s
        # Of weights on the host the bound holds the link, too, which is waited for beside.
        bound_s = t.light_s if op.place in ("device", "host") else minimum(t.light_s, t.expected_s)
        if self.engine.cpu is not None:
            return self.engine.cpu.operator_s(op, t.expected_s, bound_s, decode=decode)
        inside = self.engine.operator_s(
            op.kind,
            t.expected_s,
            self.engine.kept_s(bound_s, t.floor_s),
            decode=decode,
            flops=op.flops,
            moved_bytes=op.bytes,
            unit_clocks=device.units * device.clock_hz,
            head_dim=op.shape.get("head_dim", HEAD),
            compute_s=t.compute_s,
            memory_s=t.memory_s,
        )
        inside = maximum(inside, self.engine.rows_apart_s(op, device)) if self.engine.row_tile else inside
        inside = inside + (self.engine.spread_s(op, device) if decode else self.engine.scores_s(op, device))
        if op.place == "copied":
            return maximum(inside + t.wire_s, t.light_s)
        return maximum(maximum(inside, t.wire_s), t.light_s) if op.place == "streamed" else inside


def run_phase(
    operators: Iterable[Operator],
    machine: Machine,
    engine: Engine,
    *,
    host: Runner | None = None,
    layers: float,
    stages: Floats = 1.0,
    resident_bytes: Floats = np.inf,
    sequences: Floats | None = None,
    intervals: bool = True,
    keep: bool = False,
) -> Phase:
    """Time every operator on the machine inside the engine and add up, with the engine's host time for `layers` layers.

    `stages`: of a pipeline that the pass goes through. `sequences`: of a decode step, the sequences it adds a token to; None says
    that the pass is no decode step. `host`: what runs the operators that are placed there. intervals: False leaves `log_q`
    empty. keep: True keeps every operator with its times.
    """
    device = machine.device
    engine = engine.running_on(device)
    if host is not None:
        engine, host = host.without_graph(engine), replace(host, engine=host.without_graph(host.engine))
    here, decode = Runner(machine, engine), sequences is not None
    total, light, busy, link, moved, kernels, experts, issued, hosted, hosted_light = (_Sum() for _ in range(10))
    flops_at: dict[float, _Sum] = {}  # by the peak they are done at
    whole = engine.residual.get("decode" if decode else "prefill") if intervals else ()
    seen = engine.fit.get("seen", (device.name,))
    known = _Known(whole if host is None or not intervals else None, engine.known, device.name not in seen)
    kept: list[tuple[Timed, Floats]] = []
    for op in operators:
        runner = here if host is None or op.place != "host" else host
        t = time_operator(op, runner.machine, resident_bytes=resident_bytes if runner is here else np.inf)
        count, op_bytes = op.count, op.bytes
        seconds = runner.seconds(t, decode=decode)
        if op.place == "host":
            hosted.add(count, seconds)
            hosted_light.add(count, t.light_s)
            kernels.add(count, 1.0)
        elif op.kind == "collective":
            busy.add(count, t.link_s)
            link.add(count, t.link_s)
            kernels.add(count, where(seconds > 0.0, 1.0, 0.0))  # a collective of one rank is none
        else:
            peak = runner.machine.kernel(op)[0].device.peak_flops
            flops_at.setdefault(peak, _Sum()).add(count, op.flops)
            moved.add(count, op_bytes)
            link.add(count, t.link_s)
            busy.add(count, maximum(maximum(t.compute_s, t.memory_s), t.link_s))
            kernels.add(count, 1.0)
        if op.place != "host":
            total.add(count, seconds)
            light.add(count, t.light_s)
        if op.kind == "moe":
            experts.add(count, 1.0)
        if engine.issue_s:
            issued.add(count, issued_in(op, seconds))
        known.add(t, count, seconds)
        if keep:
            kept.append((t, seconds))
    host_s = engine.staged(stages).host_s(
        layers=layers,
        kernels=kernels.total(),
        expert_layers=experts.total(),
        sequences=0.0 if sequences is None else sequences,
        reads=not decode,
    )
    operators_s = engine.paced_s(total.total() + hosted.total(), issued.total())
    moved_bytes, hosted_s = moved.total(), hosted.total()
    # The stages of a pipeline share the host: it is done when it has run the operators of all of them.
    shared = 1.0 if host is None else host.stages
    time_s = maximum(operators_s + host_s, shared * hosted_s)
    flops = {peak: part.total() for peak, part in flops_at.items()}
    return Phase(
        time_s=time_s,
        light_s=maximum(light.total() + hosted_light.total(), shared * hosted_light.total()),
        compute_s=sum(part / peak for peak, part in flops.items()),
        memory_s=moved_bytes / device.bandwidth_bytes_per_s,
        link_s=link.total(),
        overhead_s=time_s - busy.total() - hosted_s,
        host_s=hosted_s,
        flops=sum(flops.values()),
        bytes=moved_bytes,
        log_q=known.log_quantiles(time_s, operators_s)
        if host is None
        else _either(host.splits, known.log_quantiles(time_s, operators_s), whole),
        tier=known.tier(operators_s),
        timed=WhenRead(lambda: (t._replace(expected_s=seconds) for t, seconds in kept)),
    )


def per_token(phase: Phase, tokens: Floats, host_s: Floats = 0.0) -> Phase:
    """A pass that yields `tokens` for each sequence, as what one of them takes; `host_s` is waited for beside it."""
    phase = replace(phase, time_s=phase.time_s + host_s, overhead_s=phase.overhead_s + host_s)
    shares = ("time_s", "light_s", "compute_s", "memory_s", "link_s", "overhead_s", "host_s", "flops", "bytes")
    timed = (t._replace(operator=replace(t.operator, count=t.operator.count / tokens)) for t in phase.timed)
    return replace(phase, **{name: getattr(phase, name) / tokens for name in shares}, timed=tuple(timed))


def at_efficiency(phase: Phase, efficiency: float) -> Phase:
    """A phase kept with its operators as textbooks time it: arithmetic at a share of peak, the other roofs as they are.

    Nothing measured is left in it, so it has no interval.
    """
    timed = tuple(
        t._replace(
            compute_s=t.compute_s / efficiency,
            expected_s=maximum(maximum(t.compute_s / efficiency, t.light_s), maximum(t.memory_s, t.link_s)),
        )
        for t in phase.timed
    )
    time_s: Floats = sum(t.operator.count * t.expected_s for t in timed)
    return replace(
        phase,
        time_s=time_s,
        compute_s=phase.compute_s / efficiency,
        overhead_s=0.0 * phase.overhead_s,
        log_q=(),
        tier=TIERS[-1],
        timed=timed,
    )


def _either(splits: Any, parts: tuple[Floats, ...], whole: Iterable[float] | None) -> tuple[Floats, ...]:
    """Quantiles of a pass from its parts where it is split, and of whole passes where it is not."""
    if whole is None or not parts:
        return parts
    return tuple(where(splits, part, own) for part, own in zip(parts, whole, strict=True))


class _Known:
    """How well a pass is known: its seconds by tier of their constants, and by the regime of residuals they fall under.

    `own`: quantiles of the engine's whole passes, which make those of the operators needless; None where it has none, and an
    empty tuple where nobody asks for intervals. `best`: the tier of the engine's constants, where they are not its own here.
    `unseen`: no run on this machine was fitted.
    """

    __slots__ = ("best", "by_regime", "by_tier", "own", "unseen")

    def __init__(self, own: Iterable[float] | None, best: str = "", unseen: bool = False) -> None:
        self.own, self.unseen = own, unseen
        self.best = TIERS.index(best) if best else 0
        self.by_tier: dict[str, _Sum] = {}
        self.by_regime: dict[int, tuple[Regime, _Sum]] = {}

    def add(self, t: Timed, count: Floats, seconds: Floats) -> None:
        scale = seconds / maximum(t.expected_s, 1e-300) if t.parts else 1.0
        parts = [(r, tier, each * scale) for r, tier, each in t.parts] or [(t.record, t.tier, seconds)]
        for record, tier, each in parts:
            if tier not in self.by_tier:
                self.by_tier[tier] = _Sum()
            self.by_tier[tier].add(count, each)
            if self.own is None:
                for regime, share in shares(record.residual, each, each):
                    self.by_regime.setdefault(id(regime), (regime, _Sum()))[1].add(count, share)

    def log_quantiles(self, time_s: Floats, operators_s: Floats) -> tuple[Floats, ...]:
        """Quantiles of the log error of the sum: operators of one pass err together, so shares weigh their quantiles."""
        if self.own is not None:
            stretch = STRETCH[self._worst(operators_s)] if self.unseen else 1.0
            return tuple(q * stretch for q in self.own)
        totals = [(regime, part.total()) for regime, part in self.by_regime.values()]
        return tuple(sum(getattr(r, q) * part for r, part in totals) / time_s for q in QUANTILES)

    def tier(self, operators_s: Floats) -> str | AnyArray:
        """The worst tier among operators that take a large share of each scenario."""
        worst = self._worst(operators_s)
        return TIERS[worst] if isinstance(worst, int) else _TIER_NAMES[worst]

    def _worst(self, operators_s: Floats) -> int | AnyArray:
        """The place of that tier in `TIERS`."""
        if len(self.by_tier) == 1:
            return max(self.best, TIERS.index(next(iter(self.by_tier))))
        whole: Floats = maximum(operators_s, 1e-300)
        code: Any = np.int8(self.best)
        for i, tier in enumerate(TIERS):
            if tier in self.by_tier and i > self.best:
                code = np.where(self.by_tier[tier].total() / whole > _LARGE_SHARE, np.int8(i), code)
        return np.asarray(code)
