"""Does the plan choose well? For every group of published rows of one model, machine, engine and its version, and lengths with
several measured configurations: measured tokens/s/device of the configuration that predictions choose, over the best that was
measured; and Kendall's tau of TPOT. `python -m benchmarks.plan_quality ROWS.csv.gz [--write]`.

A planner chooses no version of an engine. Rows that ask the same question (they differ in threads, or a build, that no column
states) are one configuration, as good as its best row.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from waferline.encode import dumps
from waferline.evidence.check import check
from waferline.evidence.outcome import Outcome
from waferline.evidence.rows import read_rows

RESULT = Path(__file__).parent / "results" / "plan_quality.json"
_LEAST = 3  # configurations of a group
RATES = ("output_tokens_per_s",)  # metrics of which more is better


def grouped(outcomes: list[Outcome], metric: str) -> list[list[Outcome]]:
    """Scored outcomes of a metric by what a planner cannot choose, one of each configuration, groups of several of them."""
    found: dict[tuple[object, ...], dict[tuple[object, ...], Outcome]] = defaultdict(dict)
    for o in outcomes:
        r = o.row
        if not o.scored or r.metric != metric or r.phase not in ("serve", "generate", "decode"):
            continue
        group = found[
            r.model, r.hardware, r.engine, r.engine_version, r.phase, r.input_tokens, r.output_tokens, r.source
        ]
        degrees = (r.devices, r.tp, r.pp, r.ep, r.dp, r.batch)
        mine = group.setdefault((*degrees, r.weight_format, r.activation_format, r.kv_format), o)
        if (o.row.value > mine.row.value) == (metric in RATES):
            group[*degrees, r.weight_format, r.activation_format, r.kv_format] = o
    return [list(group.values()) for group in found.values() if len(group) >= _LEAST]


def quality(outcomes: list[Outcome]) -> dict[str, object]:
    """Shares of the best, and rank correlation."""
    from scipy.stats import kendalltau

    shares = []
    for group in grouped(outcomes, "output_tokens_per_s"):
        measured, predicted = (
            np.array([v / (o.row.devices or 1.0) for o, v in zip(group, values, strict=True)])
            for values in ([o.row.value for o in group], [o.predicted or 0.0 for o in group])
        )
        shares.append(float(measured[np.argmax(predicted)] / measured.max()))
    taus = [
        float(kendalltau([o.row.value for o in g], [o.predicted for o in g])[0])
        for g in grouped(outcomes, "tpot_s")
        if len({o.row.value for o in g}) > 1
    ]
    taus = [t for t in taus if np.isfinite(t)]
    return {
        "groups": len(shares),
        "share_of_best_median": float(np.median(shares)) if shares else None,
        "share_of_best_p10": float(np.percentile(shares, 10)) if shares else None,
        "tpot_groups": len(taus),
        "tpot_kendall_tau_median": float(np.median(taus)) if taus else None,
        "tpot_kendall_tau_p10": float(np.percentile(taus, 10)) if taus else None,
    }


if __name__ == "__main__":
    rows = [row for name in sys.argv[1:] if not name.startswith("--") for row in read_rows(name)]
    answer = quality(list(check(rows).outcomes))
    print(dumps(answer))
    if "--write" in sys.argv:
        RESULT.write_text(dumps(answer) + "\n", encoding="utf-8")
