"""The arithmetic of the comparison: two times become the row's metric, two tools are scored on the same rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.peers.question import Question
from waferline.evidence.metrics import READERS, Sizes, Times
from waferline.evidence.outcome import Outcome
from waferline.evidence.targets import has_experts

# The kinds of rows told apart; the first that applies counts.
KINDS: Mapping[str, Callable[[Outcome], bool]] = {
    "served, TPOT, dense": lambda o: _served(o, "tpot_s") and not has_experts(o.row.model),
    "served, TPOT, experts": lambda o: _served(o, "tpot_s"),
    "served, TTFT": lambda o: _served(o, "ttft_s"),
    "served, tokens/s": lambda o: o.row.phase == "serve",
    "prefill": lambda o: o.row.phase == "prefill" or o.row.metric == "ttft_s",
    "decode": lambda o: o.row.phase == "decode" or o.row.metric == "tpot_s",
    "static batch": lambda o: o.row.phase == "generate",
}


def _served(o: Outcome, metric: str) -> bool:
    return o.row.phase == "serve" and o.row.metric == metric


def kind_of(o: Outcome) -> str:
    return next(name for name, applies in KINDS.items() if applies(o))


def value_of(q: Question, answer: Mapping[str, Any]) -> float:
    """The row's metric, in its unit, from a peer's times: the same reader that waferline's own times go through."""
    ttft, itl = (np.array([math.nan if answer.get(k) is None else answer[k]]) for k in ("ttft_s", "itl_s"))
    sizes = Sizes(*(np.array([getattr(q.request, k)]) for k in ("batch", "input_tokens", "output_tokens")))
    return float(READERS[q.request.answer](Times(ttft, itl), sizes)[0])


def outcomes(
    asked: Sequence[Question], answers: Mapping[str, Mapping[str, Any]], ours: Sequence[Outcome]
) -> list[Outcome]:
    """A peer's outcomes beside ours, which lend the bound that published values are checked against."""
    out = []
    for q, mine in zip(asked, ours, strict=True):
        a = answers.get(q.row.id, {"kind": "no answer", "refused": "no answer"})
        if "refused" in a:
            out.append(Outcome(row=q.row, refused=a["refused"], refused_kind=a["kind"], light=mine.light))
        else:
            out.append(Outcome(row=q.row, predicted=value_of(q, a), light=mine.light))
    return out


def errors(scored: Sequence[Outcome]) -> dict[str, Any]:
    """Median and p90 of the absolute error; bias of the time; the error left when that one factor is taken out."""
    if not scored:
        return {"rows": 0, "median_error": None, "p90_error": None, "bias": None, "median_error_unbiased": None}
    off = np.array([o.error for o in scored])
    slower = np.array([o.slower for o in scored])
    bias = float(np.median(slower))
    return {
        "rows": len(scored),
        "median_error": float(np.median(off)),
        "p90_error": float(np.quantile(off, 0.9)),
        "bias": math.expm1(bias),
        "median_error_unbiased": float(np.median(np.abs(np.expm1(slower - bias)))),
    }


def side_by_side(theirs: Sequence[Outcome], ours: Sequence[Outcome]) -> dict[str, Any]:
    """Both tools on the rows that both answer and nobody doubts, the peer on all it answers, and why it refused."""
    both = [(t, o) for t, o in zip(theirs, ours, strict=True) if t.scored and o.scored]
    return {
        "asked": len(theirs),
        "answered": sum(t.answered for t in theirs),
        "answered_share": sum(t.answered for t in theirs) / len(theirs) if theirs else None,
        "own": errors([t for t in theirs if t.scored]),
        "same_rows": {"peer": errors([t for t, _ in both]), "waferline": errors([o for _, o in both])},
        "waferline_all": {
            "answered": sum(o.answered for o in ours),
            "answered_share": sum(o.answered for o in ours) / len(ours) if ours else None,
            **errors([o for o in ours if o.scored]),
        },
        "refused": dict(Counter(t.refused_kind for t in theirs if not t.answered).most_common()),
        "reasons": dict(Counter(t.refused for t in theirs if not t.answered).most_common(8)),
    }


def by_kind(theirs: Sequence[Outcome], ours: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """`side_by_side` of every kind of row."""
    out = {}
    for name in KINDS:
        pairs = [(t, o) for t, o in zip(theirs, ours, strict=True) if kind_of(o) == name]
        if pairs:
            out[name] = side_by_side([t for t, _ in pairs], [o for _, o in pairs])
    return out
