"""Fit engines on networks of one pass: what the host takes, and their kernels over the measured ones; `engine_fits_edge.yaml`.

Rows: encoders, vision, detection and diffusion of the tables of accelerators and of other inference. One set of constants for an
engine on a kind of machine, by robust least squares of log errors in which the cells of machine, model and source count alike;
the interval is that of rows whose whole model or machine was left out.

Run, after `edge`, which writes the same file anew: `python -m benchmarks.fit.passes [--shared PATH] [--write]`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from benchmarks.fit.edge import OUT
from benchmarks.fit.engine_parts import bare
from benchmarks.fit.record import write
from waferline.arrays import FloatArray, Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import maximum
from waferline.errors import WaferlineError
from waferline.evidence.folder import PACKAGED, evidence_folder
from waferline.evidence.lint import with_marks
from waferline.evidence.names import model_spec
from waferline.evidence.request import Request
from waferline.evidence.rows import Row, read_rows
from waferline.evidence.scenario import request_of
from waferline.fit import fading
from waferline.predict.chosen_precision import choose_precision
from waferline.predict.engine import arithmetic_s, family_of, get_engine
from waferline.predict.inputs import sized
from waferline.predict.roofline import Timed
from waferline.predict.single import one_pass

_FILES = ("accelerators-inference", "other-inference", "edge-inference")
_KEPT = ("static", "none", "llama.cpp")  # fitted by `engines`, or kept as the facts say
_NAMES = ("step_s", "kernel_s", "launch_s", "prefill_scale", "conv_scale")
START, _SPREAD = np.log([2e-4, 1e-6, 2e-6, 1.0, 1.0]), np.array([1.5, 1.0, 1.5, 0.8, 0.8])
_STARTS = (START, np.log([1e-4, 5e-7, 1.2e-5, 1.0, 1.0]))
FEWEST = 8
_NOISE, _FOLDS, _STEPS = 0.15, 6, 15

Ops = npt.NDArray[np.float64]  # (operator, [count, seconds, bound, class])
_CLASS = {"conv": 1, "collective": 2}  # of operators: whose time has a scale of its own, and whose has none


def operators(row: Row) -> tuple[Request, float, Ops] | None:
    """(question, measured seconds of one pass, operators without an engine) of a row; None for one that is not of this kind."""
    request = request_of(row)
    if row.suspect or not isinstance(request, Request) or request.door != "single" or request.engine in _KEPT:
        return None
    if request.guesses:
        return None
    try:
        model = sized(model_spec(request.model), request.image_size or None, None)
        label = choose_precision(model, request.machine, request.precision, request.kv)[0]
        batch = float(np.ceil(request.batch / request.dp))
        engine = get_engine(request.engine)
        alone = replace(bare(engine), packed=False)
        timed = one_pass(model, request.machine, alone, label, batch, request.input_tokens)
    except WaferlineError:
        return None
    counted = 1.0 if request.answer == "passes_per_s" else request.batch
    seconds = row.value if request.answer == "latency_s" else counted / row.value
    seconds /= min(1.0, request.batch / request.dp) * (request.steps or 1)
    found = [
        (float(t.operator.count), *(float(x) for x in _times(t, engine.packed)), _CLASS.get(t.operator.kind, 0))
        for t in timed
    ]
    return request, seconds, np.array(found, dtype=np.float64)


def _times(t: Timed, packed: bool) -> tuple[Floats, Floats]:
    """Seconds that scale with the engine's kernels, and the bound; of packed images their arithmetic, and what memory takes."""
    if t.operator.kind != "conv" or not packed:
        return t.expected_s, t.light_s
    return arithmetic_s(t.expected_s, t.compute_s, t.memory_s), maximum(t.light_s, t.memory_s)


class Family:
    """The rows of one engine on one kind of machine."""

    def __init__(self, rows: list[tuple[Row, Request, float, Ops]]) -> None:
        self.seconds = np.array([s for _, _, s, _ in rows])
        self.of = np.repeat(np.arange(len(rows)), [len(ops) for *_, ops in rows])
        self.count, self.expected, self.light, kind = np.concatenate([ops for *_, ops in rows]).T
        self.kind = kind.astype(int)
        self.kernels = np.bincount(self.of, self.count, minlength=len(rows))
        self.possible = np.bincount(self.of, self.count * self.light, minlength=len(rows)) <= self.seconds
        self.model = np.array([r.model for r, *_ in rows])
        self.machine = np.array([r.hardware for r, *_ in rows])
        self.source = np.array([r.source for r, *_ in rows])
        cells = [f"{r.hardware}|{r.model}|{r.source}" for r, *_ in rows]
        many = Counter(cells)
        self.weight = np.array([many[c] ** -0.5 for c in cells])

    def log_errors(self, x: FloatArray) -> FloatArray:
        step_s, kernel_s, launch_s, scale, conv_scale = np.exp(x)
        scales = np.array((scale, scale * conv_scale, 1.0))[self.kind]
        each = np.maximum(np.maximum(scales * self.expected, self.light), launch_s)
        total = np.bincount(self.of, self.count * each, minlength=len(self.seconds))
        return np.log((total + step_s + kernel_s * self.kernels) / self.seconds)

    def fit(self, keep: npt.NDArray[np.bool_]) -> FloatArray:
        """The constants with the least robust error on `keep`, rows faster than light apart: no constant makes those right."""
        keep = keep & self.possible

        def residual(x: FloatArray) -> FloatArray:
            e = self.log_errors(x)[keep]
            return np.concatenate([self.weight[keep] * np.sign(e) * fading(e, _NOISE), (x - START) / _SPREAD])

        return min((least_squares(residual, s, max_nfev=_STEPS) for s in _STARTS), key=lambda r: r.cost).x

    def left_out(self, label: npt.NDArray[np.str_]) -> FloatArray | None:
        """Errors of rows predicted without their group, in folds of whole groups; None with one group."""
        groups, index = np.unique(label, return_inverse=True)
        if len(groups) < 2:
            return None
        fold = (np.random.default_rng(0).permutation(len(groups)) % _FOLDS)[index]
        out = np.zeros(len(self.seconds))
        for f in np.unique(fold):
            out[fold == f] = self.log_errors(self.fit(fold != f))[fold == f]
        return out

    def entry(self) -> dict[str, Any]:
        """The record: constants, interval and card."""
        x = self.fit(np.ones(len(self.seconds), dtype=bool))
        errors = self.log_errors(x)
        card: dict[str, Any] = {"rows": len(errors), **_figures(errors)}
        held = []
        for by, label in (("model", self.model), ("machine", self.machine)):
            if (out := self.left_out(label)) is not None:
                card[f"left_out_by_{by}"] = {"groups": len(np.unique(label)), **_figures(out)}
                held.append(out)
        q = np.quantile(-np.concatenate(held or [2.0 * errors]), (0.05, 0.25, 0.75, 0.95)).round(4).tolist()
        residual = {"prefill": [min(q[0], 0.0), min(q[1], 0.0), max(q[2], 0.0), max(q[3], 0.0)]}
        constants = {name: float(f"{v:.4g}") for name, v in zip(_NAMES, np.exp(x).tolist(), strict=True)}
        return {**constants, "layer_s": 0.0, "residual": residual, "fit": card}


def _figures(errors: FloatArray) -> dict[str, float]:
    share = np.abs(np.expm1(errors))
    return {"median": round(float(np.median(share)), 3), "p90": round(float(np.quantile(share, 0.9)), 3)}


def by_family(folder: Path) -> dict[tuple[str, str], list[tuple[Row, Request, float, Ops]]]:
    """(engine, kind of machine) → its rows."""
    found: dict[tuple[str, str], list[tuple[Row, Request, float, Ops]]] = {}
    for row in with_marks([r for name in _FILES for r in read_rows(folder / f"{name}.csv.gz")]):
        if (asked := operators(row)) is not None:
            found.setdefault((asked[0].engine, family_of(asked[0].machine)), []).append((row, *asked))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    folder = evidence_folder(arguments.shared) or PACKAGED.parent
    rows_of = by_family(folder)
    families: dict[str, dict[str, Any]] = dict(read_packaged("engine_fits_edge.yaml")["families"])
    size: Callable[[tuple[str, str]], int] = lambda key: -len(rows_of[key])  # noqa: E731
    for engine, kind in sorted(rows_of, key=size):
        if len(rows_of[engine, kind]) < FEWEST:
            continue
        entry = Family(rows_of[engine, kind]).entry()
        print(f"{engine:26} {kind:16} {entry['fit']}")
        decodes = {k: v for k, v in families.get(engine, {}).get(kind, {}).get("residual", {}).items() if k == "decode"}
        if not decodes:  # engines that generate, too, keep what their runs say
            families[engine] = {**families.get(engine, {}), kind: entry}
    if arguments.write:
        write(OUT, "families", families, depth=2, digits=9)


if __name__ == "__main__":
    main()
