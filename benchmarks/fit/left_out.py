"""One card of serving engines with whole groups left out: `python -m benchmarks.fit.left_out [ENGINE ...] [--shared PATH]`.

Every row is predicted by constants fitted without any row of its machine, its model or its lab (who published it), and its
90 % interval comes from errors of other groups left out. Where nothing of an engine is left on a kind of machine, what related
engines have in common stands in, or its constants of a related kind of machine, with the interval that ships for such.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.fit.engine_family import FEWEST_ROWS
from benchmarks.fit.engine_fit import (
    POOLED,
    campaign,
    constants_of,
    fit,
    is_prefill,
    lab,
    log_errors,
    names_of,
    quantiles,
)  # fmt: skip
from benchmarks.fit.engine_parts import Parts, load_parts
from benchmarks.fit.engines import SERVED, near, rows_of, usable
from waferline.arrays import FloatArray
from waferline.catalog.yaml_file import read_packaged
from waferline.evidence.request import Request
from waferline.evidence.rows import Row
from waferline.fit import Errors, sweep_weights
from waferline.predict.engine import related
from waferline.predict.phase import STRETCH, TIERS

RESULTS = Path(__file__).parents[1] / "results" / "left_out.json"
GENERATIONS = (*SERVED, "vllm-v0", "tensorrt-llm-v0")
SPLITS: dict[str, Callable[[Row, Request], object]] = {
    "machine": lambda r, q: q.hardware,
    "model": lambda r, q: q.model,
    "lab": lambda r, q: lab(r),
}


def kind(row: Row, request: Request, experts: bool) -> str:
    """The class of a row in the card."""
    if request.load in ("closed", "burst"):
        metric = "TPOT" if request.answer == "tpot_s" else "rate"
        return f"served {metric}, {'experts' if experts else 'dense'}"
    return "static prefill" if request.answer in ("ttft_s", "prompt_tokens_per_s") else "static"


def held_errors(
    p: Parts, of: Callable[[Row, Request], object], scored: npt.NDArray[np.bool_] | None = None
) -> FloatArray:
    """Log errors of every row under constants that saw nothing of its group of `of`, engine by engine and kind by kind.

    scored: rows that are asked about; the errors of the others, which are fitted all the same, stay unknown.
    """
    label, engine = p.labels(of), p.labels(lambda r, q: constants_of(q.engine))
    served = np.isin(engine, SERVED) & (p.vendor == "nvidia gpu")
    family = np.char.add(np.char.add(engine, " on "), p.vendor)
    errors = np.full(len(label), np.nan)
    asked = np.ones(len(label), dtype=bool) if scored is None else scored
    pooled: dict[str, dict[str, float]] = {}
    for name in np.unique(label[asked]):
        inside = (label == name) & asked
        rest = served & (label != name)
        if rest.sum() >= FEWEST_ROWS and (inside & served).any():
            pooled[name] = fit(p.where(rest), POOLED)
        for one in np.unique(family[inside]):
            mine, others = inside & (family == one), (label != name) & (family == one)
            runs, vendor = str(engine[mine][0]), str(p.vendor[mine][0])
            start = pooled.get(name) if (mine & served).any() else near(p.where(label != name), runs, vendor)[1]
            seen = fit(p.where(others), runs, start) if others.sum() >= FEWEST_ROWS else None
            lent = None if seen or start else _lent(p, runs, vendor, label != name)
            neutral = {name: at for name, (at, _) in names_of(runs).items()}
            errors[mine] = log_errors(p.where(mine), seen or start or lent or neutral)
    return errors


def _lent(p: Parts, engine: str, vendor: str, rest: npt.NDArray[np.bool_]) -> dict[str, float] | None:
    """Constants that the engine has on the most rows of a kind of machine which may lend its own."""
    near = np.array([related(str(v), vendor) for v in p.vendor])
    rows = rest & (p.labels(lambda r, q: constants_of(q.engine)) == engine) & near
    names, counts = np.unique(p.vendor[rows], return_counts=True)
    if counts.max(initial=0) < FEWEST_ROWS:
        return None
    return fit(p.where(rows & (p.vendor == names[counts.argmax()])), engine)


def intervals(p: Parts, found: Mapping[str, FloatArray], split: str) -> npt.NDArray[np.float64]:
    """(5 %, 95 %) of log(measured / predicted) of every row with its group of `split` left out, as the catalogue would hold them.

    By engine, kind of machine and pass: quantiles of `found`, the errors of the other groups with models, machines and labs left
    out, a sweep counting once. On machines left out as far as `STRETCH` says; where no group is left, what is shipped for
    constants that are lent.
    """
    out = np.empty((len(p.rows), 2))
    groups, weights = p.labels(SPLITS[split]), sweep_weights(p.labels(campaign)) ** 2
    family = np.char.add(
        np.char.add(p.labels(lambda r, q: constants_of(q.engine)), p.vendor), is_prefill(p).astype(str)
    )
    lent = read_packaged("engine_unfitted.yaml")["residual"]["relative"]
    far = np.array([STRETCH[TIERS.index(t)] for t in p.tier]) if split == "machine" else np.ones(len(p.rows))
    for one in np.unique(family):
        rows = np.flatnonzero(family == one)
        phase = "prefill" if is_prefill(p.where(family == one))[0] else "decode"
        for name in np.unique(groups[rows]):
            inside, rest = rows[groups[rows] == name], rows[groups[rows] != name]
            few = len(rest) < FEWEST_ROWS
            held = [e[rest] for e in found.values()]
            low, _, _, high = lent[phase] if few else quantiles(held, weights=weights[rest])
            out[inside] = np.outer(far[inside], (low, high))
    return out


def card(p: Parts) -> dict[str, dict[str, Any]]:
    """By class of row and by tier: how many, and by split the median and 90th percentile of the error, the share of rows in the
    90 % interval and the median of its upper end over its lower."""
    classes = np.array([kind(r, q, bool(x)) for r, q, x in zip(p.rows, p.requests, p.experts, strict=True)])
    found = {name: held_errors(p, of) for name, of in SPLITS.items()}
    ends = {name: intervals(p, found, name) for name in SPLITS}
    out: dict[str, dict[str, Any]] = {}
    parts = {str(one): classes == one for one in np.unique(classes)}
    parts |= {f"operators {t}": p.tier == t for t in TIERS if (p.tier == t).any()}
    for one, rows in (parts | {"all": np.ones(len(classes), dtype=bool)}).items():
        out[one] = {"rows": int(rows.sum())}
        for name, errors in found.items():
            e, (low, high) = Errors.of(errors[rows]), ends[name][rows].T
            cover = float(np.mean((low <= -errors[rows]) & (-errors[rows] <= high)))
            width = float(np.exp(np.median(high - low)))
            figures = {"median": e.median, "p90": e.p90, "cover": cover, "width": width}
            out[one][name] = {k: round(v, 4) for k, v in figures.items()}
    return out


def lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The card as text."""
    out = [f"{'class':24s} {'rows':>5s}" + "".join(f" | {name + ' left out':>32s}" for name in SPLITS)]
    for one, row in found.items():
        cells = (
            f" | {100 * e['median']:5.1f} % p90 {100 * e['p90']:4.0f} in {100 * e['cover']:3.0f} % x{e['width']:4.1f}"
            for e in (row[n] for n in SPLITS)
        )
        out.append(f"{one:24s} {row['rows']:5d}" + "".join(cells))
    return out


def rows_on_gpus(shared: str | None, engines: Sequence[str] = GENERATIONS) -> Parts:
    parts = load_parts([r for r in rows_of(shared) if not r.id.startswith("edge-")])
    keep, _ = usable(parts)
    keep &= np.isin(parts.labels(lambda r, q: constants_of(q.engine)), engines) & np.char.endswith(parts.vendor, " gpu")
    return parts.where(keep)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", nargs="*", default=GENERATIONS)
    parser.add_argument("--shared")
    parser.add_argument("--write", action="store_true", help=f"keep it in {RESULTS.name}, from which README is written")
    arguments = parser.parse_args()
    found = card(rows_on_gpus(arguments.shared, arguments.engines))
    print("\n".join(lines(found)))
    if arguments.write:
        day = datetime.date.today().isoformat()
        RESULTS.write_text(json.dumps({"date": day, "classes": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
