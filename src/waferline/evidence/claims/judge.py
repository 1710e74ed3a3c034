"""The verdict on a claim: plausible, infeasible (with the law it breaks), optimistic, or unverifiable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.errors import WaferlineError
from waferline.evidence.claims.claim import PER_USER_RATE, Claim
from waferline.evidence.claims.expect import Expected, expected
from waferline.evidence.claims.laws import CAPACITY, Limit, limits
from waferline.evidence.claims.sheet import SHEET, Status, judge_sheet
from waferline.evidence.metrics import is_rate
from waferline.evidence.names import model_spec
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import Row
from waferline.evidence.scenario import request_of
from waferline.machines.hardware import load_hardware
from waferline.text import metric as spoken

STATUSES: tuple[Status, ...] = ("plausible", "optimistic", "infeasible", "unverifiable")

_ROUNDING = 1.02  # published values round up: a bound counts as broken beyond this
_FAR_FROM_ROOF = 10.0  # a step so many times longer than the roofs allow waits for latency, not for bytes or FLOPs
_CONSISTENT = 0.1  # figures of one clause are rounded
LATENCY, UTILISATION, IDENTITY = "latency", "utilisation", "throughput × time per token = batch"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A row or claim with its verdict. `best` is what the laws allow, `expected` what our models say, in its unit.

    law: the law that an infeasible claim breaks; for others the one that decides how fast it can be.
    """

    row: Row
    status: Status
    reasons: tuple[str, ...]
    law: str = ""
    best: float | None = None
    expected: Expected | None = None
    claim: Claim | None = None

    def to_json(self) -> dict[str, Any]:
        e = self.expected
        return {
            "claim": self.claim.text if self.claim else self.row.id,
            "model": self.row.model,
            "machine": self.row.hardware,
            "metric": self.claim.metric if self.claim else self.row.metric,
            "value": _plain(self.claim.value if self.claim else self.row.value),
            "status": self.status,
            "law": self.law or None,
            "best": _plain(self.best),
            "expected": _plain(e.value) if e else None,
            "low95": _plain(e.low95) if e else None,
            "high95": _plain(e.high95) if e else None,
            "reasons": list(self.reasons),
        }


def _plain(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def judge_claims(claims: Sequence[Claim]) -> list[Judgement]:
    """Verdicts on claims that were made together: figures of one clause must also agree with one another."""
    judged = [judge_claim(c) for c in claims]
    return [_consistent(j, claims) for j in judged]


def _consistent(j: Judgement, claims: Sequence[Claim]) -> Judgement:
    """Tokens per second times time per token is the batch; a clause that denies it is infeasible."""
    mine = {c.metric: c for c in claims if j.claim is not None and c.text == j.claim.text}
    rate, step = mine.get("output_tokens_per_s"), mine.get("tpot_s")
    if j.claim is None or rate is None or step is None or rate.batch is None or rate.clients:
        return j
    implied = rate.value * step.value
    if abs(implied / rate.batch - 1) <= _CONSISTENT:
        return j
    said = f"{rate.value:,.4g} tok/s at {spoken(step.value, 's')} per token is a batch of {implied:.3g}, not {rate.batch:g}"
    return replace(j, status="infeasible", law=IDENTITY, reasons=(said, *j.reasons))


def judge_claim(claim: Claim) -> Judgement:
    """The verdict on one claim. Sequences of its batch are all in memory at once, unless it counts clients."""
    if claim.missing:
        empty = Row(
            id="claim", hardware=claim.machine, model=claim.model, phase="", metric=claim.metric, value=math.nan
        )
        said = tuple(f"missing: {name}" for name in claim.missing)
        return Judgement(empty, "unverifiable", said, claim=claim)
    if claim.metric in SHEET:
        return _of_the_sheet(claim)
    if not claim.precision:
        claim = replace(claim, shipped=getattr(model_spec(claim.model), "weight_format", None) or "")
    return _read_generously(claim)


def _of_the_sheet(claim: Claim) -> Judgement:
    row = Row(id="claim", hardware=claim.machine, model="", phase="", metric=claim.metric, value=claim.value)
    status, reasons, law, known = judge_sheet(claim.metric, claim.machine, claim.value, claim.devices)
    return Judgement(row, status, reasons, law=law, best=known, claim=claim)


_NARROW = "int4"  # the narrowest format in common use: what a sentence that names none may have meant
_OPEN = ("infeasible", "unverifiable")  # verdicts that another reading may replace


def _read_generously(claim: Claim) -> Judgement:
    """The verdict of the kindest reading: a claim is infeasible only if it is so in every one that its sentence allows.

    A rate without a batch is that of one sequence where it can be, else of a full load, and then nothing decides.
    """
    no_batch = claim.batch is None and claim.row().batch is None and claim.metric != "mfu"
    if no_batch:
        alone = _in_some_format(replace(claim, batch=1.0))
        if alone.status == "plausible":
            return replace(alone, reasons=(*alone.reasons, "batch not stated: taken as 1"), claim=claim)
    judged = _several(claim, _in_some_format(claim))
    if no_batch and judged.status in ("plausible", "optimistic"):
        judged = replace(judged, status="unverifiable", reasons=("missing: batch", *judged.reasons))
    return judged


def _several(claim: Claim, judged: Judgement) -> Judgement:
    """Wafers and their kin are named for a service of many: without a number, weights that one cannot hold decide nothing."""
    if judged.law != CAPACITY or claim.counted or load_hardware(claim.machine).kind not in ("wafer", "lpu"):
        return judged
    if (
        _in_some_format(replace(claim, clients=True)).law != CAPACITY
    ):  # the weights fit, what is claimed beside them does not
        return judged
    said = "missing: number of devices; one cannot hold the weights"
    return replace(judged, status="unverifiable", law="", best=None, reasons=(said, *judged.reasons))


def _in_some_format(claim: Claim) -> Judgement:
    """The verdict in the format that is stated or shipped, or in a narrow one where that one is impossible."""
    judged = _judge_claim(claim)
    if claim.precision or judged.status not in _OPEN:
        return judged
    narrow = _judge_claim(replace(claim, precision=_NARROW))
    if narrow.status in _OPEN:
        return judged
    usual = claim.shipped or "16 bit"
    said = f"number format not stated: impossible in {usual}, so judged in {_NARROW}"
    return replace(narrow, reasons=(*narrow.reasons, said), claim=claim)


def _judge_claim(claim: Claim) -> Judgement:
    row = claim.row()
    judged = judge_rows([row], resident=not claim.clients)[0]
    longest = _longest_context(claim, row) if judged.status in ("plausible", "optimistic") else ()
    if claim.metric == PER_USER_RATE:
        judged = _per_user(judged)
    return replace(judged, reasons=judged.reasons + longest + claim.assumed, claim=claim)


_CONTEXTS = 2.0 ** np.arange(8, 21)  # tokens, up to a million
_STEPS = 64  # between two of them


def _longest_context(claim: Claim, row: Row) -> tuple[str, ...]:
    """Where no context is stated, the one beyond which the figure breaks a law: what was not said decides the verdict."""
    if claim.input_tokens is not None:
        return ()
    low, high = 0.0, 0.0
    for contexts in (_CONTEXTS, None):
        tried = np.linspace(low, high, _STEPS) if contexts is None else contexts
        requests = [request_of(replace(row, input_tokens=float(n))) for n in tried]
        limits = _limits([r for r in requests if isinstance(r, Request)])
        broken = [not isinstance(x, Limit) or bool(_broken(row, x, resident=not claim.clients)) for x in limits]
        if len(broken) < len(tried) or not any(broken):
            return ()
        first = broken.index(True)
        low, high = (float(tried[first - 1]) if first else 1.0), float(tried[first])
    return (f"impossible above {float(f'{low:.2g}'):,.0f} tokens of context",)


def _per_user(j: Judgement) -> Judgement:
    """Times per token as tokens per second of one user."""
    e = j.expected
    rates = Expected(1 / e.value, 1 / e.high95, 1 / e.low95, e.tier) if e else None
    return replace(j, best=1 / j.best if j.best else None, expected=rates)


def judge_rows(
    rows: Sequence[Row], resident: bool = False, progress: Callable[[int], None] | None = None
) -> list[Judgement]:
    """A verdict on every row. `resident`: the whole batch must be in memory at once, as a claim about a batch says.

    Published rows are judged without it: servers queue what does not fit and still report the batch that was asked.
    """
    asked = [request_of(row) for row in rows]
    requests = [r for r in asked if isinstance(r, Request)]
    answers = iter(zip(_limits(requests), expected(requests, progress), strict=True))
    out = []
    for row, request in zip(rows, asked, strict=True):
        if isinstance(request, Refusal):
            out.append(_without_request(row, request))
            continue
        limit, expectation = next(answers)
        out.append(_judge(row, limit, expectation, resident))
    return out


def _limits(requests: Sequence[Request]) -> list[Limit | Refusal]:
    """Limits in request order, group by group; a group that cannot be lowered refuses with the reason."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(request.group, []).append(index)
    out: list[Limit | Refusal] = [Refusal("", "")] * len(requests)
    for members in groups.values():
        try:
            found: list[Limit | Refusal] = list(limits([requests[i] for i in members]))
        except WaferlineError as error:
            found = [Refusal(error.kind, str(error))] * len(members)
        for index, limit in zip(members, found, strict=True):
            out[index] = limit
    return out


def _without_request(row: Row, refusal: Refusal) -> Judgement:
    """Nothing is expected of such a row; a law may be broken all the same, whatever is not stated."""
    if row.metric == "mfu" and row.value > 1:
        return Judgement(row, "infeasible", ("utilisation cannot exceed 100 %",), UTILISATION, 1.0)
    kindest = request_of(replace(row, input_tokens=row.input_tokens or 1.0, output_tokens=row.output_tokens or 1.0))
    if refusal.kind == "lengths" and isinstance(kindest, Request):
        limit = _limits([kindest])[0]
        broken = None if isinstance(limit, Refusal) else _broken(row, limit, resident=False)
        if broken and isinstance(limit, Limit):
            return Judgement(row, "infeasible", (*broken[1], "whatever its lengths"), broken[0], limit.best)
    return Judgement(row, "unverifiable", (refusal.reason,))


def _judge(row: Row, limit: Limit | Refusal, e: Expected | Refusal, resident: bool) -> Judgement:
    if isinstance(limit, Refusal):
        return Judgement(row, "unverifiable", (limit.reason,))
    broken = _broken(row, limit, resident)
    found = e if isinstance(e, Expected) else None
    if broken:
        return Judgement(row, "infeasible", broken[1], broken[0], limit.best, found)
    if isinstance(e, Refusal):
        return Judgement(row, "unverifiable", (f"no law is broken, but {e.reason}",), limit.law, limit.best)
    law, notes = _decided_by(row, limit, e)
    fast, slow = (
        (row.value > e.high95, row.value < e.low95)
        if is_rate(row.metric)
        else (
            row.value < e.low95,
            row.value > e.high95,
        )
    )
    if fast:
        return Judgement(row, "optimistic", ("faster than our 95 % interval", *notes), law, limit.best, e)
    said = "slower than our 95 % interval" if slow else "inside our 95 % interval"
    return Judgement(row, "plausible", (said, *notes), law, limit.best, e)


def _broken(row: Row, limit: Limit, resident: bool) -> tuple[str, tuple[str, ...]] | None:
    """(law, reasons) where the row breaks one."""
    said, law = [], ""
    need = limit.needed_bytes if resident else limit.weights_bytes
    if need > limit.capacity_bytes * _ROUNDING:
        law = CAPACITY
        what = "weights and KV cache" if need > limit.weights_bytes else "weights"
        said.append(f"{what} need {spoken(need, 'B')}, the machine has {spoken(limit.capacity_bytes, 'B')}")
    factor = _beyond(row, limit)
    if factor > _ROUNDING:
        law = law or limit.law
        said.append(f"{factor:.3g} times faster than {limit.law} allows: {_said(row, limit.best)} at best")
    return (law, tuple(said)) if said else None


def _beyond(row: Row, limit: Limit) -> float:
    """How many times faster than the bound; infinite where nothing is allowed at all."""
    value, best = (row.value, limit.best) if is_rate(row.metric) else (limit.best, row.value)
    return value / best if best > 0 else math.inf


def _decided_by(row: Row, limit: Limit, e: Expected) -> tuple[str, tuple[str, ...]]:
    """The law that decides the speed: latency where the roofs are far away."""
    distance = limit.best / e.value if is_rate(row.metric) else e.value / limit.best
    if distance < _FAR_FROM_ROOF:
        return limit.law, ()
    note = f"latency-bound: the {limit.law} roof, {_said(row, limit.best)}, is {distance:.0f} times away"
    return LATENCY, (note,)


def _said(row: Row, value: float) -> str:
    unit = "tok/s" if row.metric.endswith("tokens_per_s") else ("s" if row.metric.endswith("_s") else "")
    return spoken(value, unit) if unit == "s" else f"{value:,.4g} {unit}".strip()
