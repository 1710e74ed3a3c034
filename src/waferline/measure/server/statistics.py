"""Percentiles and rates of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from waferline.measure.server.stream import Answer, Failure

PERCENTILES = (50, 90, 95, 99)


def spread_of(values: Iterable[float]) -> dict[str, float] | None:
    """Mean and percentiles; None where there is nothing."""
    found = np.fromiter(values, np.float64)
    if not found.size:
        return None
    return {"mean": float(found.mean()), **{f"p{q}": float(np.percentile(found, q)) for q in PERCENTILES}}


def summarise(results: Sequence[Answer | Failure]) -> dict[str, Any]:
    """Everything a run says, SI floats. Times are of answered requests alone; errors are counted by kind beside them."""
    answers = [r for r in results if isinstance(r, Answer)]
    failures = [r for r in results if isinstance(r, Failure)]
    began = min((r.started_s for r in results), default=0.0)
    duration = max((r.ended_s for r in results), default=0.0) - began
    tokens = sum(a.output_tokens for a in answers)
    chunks = sum(len(a.arrivals_s) for a in answers)
    prompts = [a.prompt_tokens for a in answers if a.prompt_tokens is not None]
    return {
        "requests": len(results),
        "answered": len(answers),
        "error_rate": len(failures) / len(results) if results else 0.0,
        "errors": dict(Counter(f.fault for f in failures)),
        "error_samples": list(dict.fromkeys(f"{f.fault}: {f.detail}" for f in failures))[:5],
        "duration_s": duration,
        "ttft_s": spread_of(a.ttft_s for a in answers),
        "itl_s": spread_of(gap for a in answers for gap in a.gaps_s),
        "tpot_s": spread_of(a.tpot_s for a in answers if a.tpot_s is not None),
        "latency_s": spread_of(a.latency_s for a in answers),
        "output_tokens": tokens,
        "prompt_tokens_mean": float(np.mean(prompts)) if prompts else None,
        "output_tokens_per_s": tokens / duration if duration else 0.0,
        "requests_per_s": len(answers) / duration if duration else 0.0,
        "tokens_per_chunk": tokens / chunks if chunks else None,
        "counted_by": sorted({a.counted_by for a in answers}),
    }
