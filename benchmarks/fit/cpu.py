"""Fit block-format kernels on CPUs, one physical model for all engines: `catalog/cpu_kernels.yaml`, and its errors left out.

Every effect (engine, core, format, machine; of vector and of matrix kernels) is a log ratio shrunk towards none: what no row names
keeps the model. Groups are left out whole: models, machines, sources.

Arithmetic and bandwidth explain one another, and the search has several ends. It begins where far rows still pull (`_LADDER`): with
groups left out, that ends nearer to where it ends with all rows.

Run: `python -m benchmarks.fit.cpu [--shared PATH] [--write]`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.sparse import csr_matrix, diags

from benchmarks.fit.cpu_rows import CpuRows, cpu_rows
from benchmarks.fit.record import write
from waferline.arrays import FloatArray
from waferline.evidence.folder import PACKAGED, evidence_folder
from waferline.fit import Errors, folds, residual_quantiles, soft, sweep_weights
from waferline.predict.cpu_kernels import MATRIX, REFERENCE_CORES, VECTOR, drawn_of, product_s, rest

OUT = Path("src/waferline/catalog/cpu_kernels.yaml")
# Log errors at which a row starts to pull less, one search after the other. The last is what rows of one machine scatter between
# formats and builds: with 0.1, effects of machines left out moved by what those of the others could not explain.
_LADDER, _STEPS, _FOLDS, _STEP = (0.8, 0.4, 0.25), (15, 15, 40), 6, 1e-5
_FEWEST = 0.03  # an effect smaller than that is none
# effect: (where it starts, spread of its prior), both of logarithms
_BASE = {VECTOR: (np.log(0.08), 1.0), MATRIX: (np.log(0.15), 1.0)}
_SPREAD = {
    "engines": 0.7,
    "formats": 0.5,
    "codes": 0.5,
    "machines": 0.25,
    "experts": 0.5,
    "designs": 0.3,
    "products": 0.3,
}
_IN_CODES = 0.25  # of a format, around others whose codes are read alike
# Instructions for 32 products and their sums over those of VNNI: three on two ports; i8mm has twice the products of a dot
# product, and without any of them products are widened first.
_PRODUCTS = {
    VECTOR: {"none": np.log(0.4), "avx2": np.log(0.6)},
    MATRIX: {"none": np.log(0.3), "avx2": np.log(0.5), "i8mm": np.log(1.6)},
}
_CROWD = (-0.1, 0.1)  # exponent of cores at work of matrix kernels, which share caches and wait for the slowest
_ONLY_MATRIX = ("designs",)  # of vector kernels it made machines left out worse
_EXPONENTS = (("slope",), ("crowd",))  # recorded as they are, all others as factors
_MEMORY = {"share": (np.log(0.55), 0.5), "slope": (-0.2, 0.3), "core_bytes": (np.log(8.0), 0.7)}
_MACHINE_MEMORY, _OTHER = 0.5, 0.7
_HOST = {"step_s": (np.log(3e-4), 1.0), "sync_s": (np.log(2e-7), 1.0)}

Matrix = csr_matrix


class Effects:
    """Names of effects with their priors, and designs: which of them each operator or row adds up."""

    def __init__(self) -> None:
        self.index: dict[tuple[str, ...], int] = {}
        self.prior: list[tuple[float, float]] = []

    def add(self, name: tuple[str, ...], at: float, spread: float) -> int:
        if name not in self.index:
            self.index[name] = len(self.prior)
            self.prior.append((at, spread))
        return self.index[name]

    def design(self, of: Iterable[list[int]]) -> Matrix:
        lists = list(of)
        at = [i for i, chosen in enumerate(lists) for _ in chosen]
        columns = [c for chosen in lists for c in chosen]
        return csr_matrix((np.ones(len(at)), (at, columns)), shape=(len(lists), len(self.prior)))


class Model:
    """The rows with what their times depend on."""

    def __init__(self, rows: CpuRows) -> None:
        self.rows, self.effects = rows, Effects()
        add, r = self.effects.add, rows
        for name, prior in (*_MEMORY.items(), *_HOST.items(), ("crowd", _CROWD)):
            add((name,), *prior)

        def effect(name: str, what: str, kernel: str, *, in_codes: bool) -> int:
            spread = _IN_CODES if name == "formats" and in_codes else _SPREAD[name]
            return add((name, what, kernel), _PRODUCTS[kernel].get(what, 0.0) if name == "products" else 0.0, spread)

        def rates(kernel: str) -> list[list[int]]:
            known = [{n: w for n, w in of.items() if kernel == MATRIX or n not in _ONLY_MATRIX} for of in r.named]
            return [
                [
                    add(("base", kernel), *_BASE[kernel]),
                    *(effect(name, what, kernel, in_codes="codes" in named) for name, what in named.items()),
                ]
                if named
                else []
                for named in known
            ]

        lists = {kernel: rates(kernel) for kernel in (VECTOR, MATRIX)}
        others = [
            [] if named else [add(("other", rest(kind, decode=d)), 0.0, _OTHER)]
            for named, kind, d in zip(r.named, r.kind, r.decode, strict=True)
        ]
        memory = [[add(("machines", m, "memory"), 0.0, _MACHINE_MEMORY)] for m in r.machine]
        self.vector, self.matrix = (self.effects.design(lists[k]) for k in (VECTOR, MATRIX))
        self.other, self.memory = self.effects.design(others), self.effects.design(memory)
        self.products = np.array([bool(n) for n in r.named])
        self.at, self.spread = np.array(self.effects.prior).T
        devices = [(d.bandwidth_bytes_per_s, d.units * d.clock_hz, d.units) for d in r.device]
        self.whole, self.clocks, units = np.array(devices, dtype=np.float64).T
        crowd = self.effects.design([[self.effects.index["crowd",]]] * len(r.of))
        self.matrix = csr_matrix(self.matrix + diags(self.products * np.log(units / REFERENCE_CORES)[r.of]) @ crowd)

    def errors(self, x: FloatArray) -> FloatArray:
        return self._solve(x)[0]

    def _drawn(self, x: FloatArray) -> FloatArray:
        i = self.effects.index
        share, core = np.exp(x[i["share",]] + self.memory @ x), float(np.exp(x[i["core_bytes",]]))
        return np.asarray(drawn_of(self.whole, self.clocks, share, float(x[i["slope",]]), core))

    def _each(self, v: FloatArray, m: FloatArray, drawn: FloatArray, o: FloatArray) -> FloatArray:
        """Seconds of every operator from the logarithms of its rates, bandwidth and factor."""
        r = self.rows
        rates = r.vector_flops_per_s * np.exp(v), r.vector_flops_per_s * np.exp(m)
        product = product_s(r.flops, r.row_flops, r.moved_bytes, rates, np.exp(drawn))
        return r.count * np.maximum(np.where(self.products, product, np.exp(o) * r.expected_s), r.light_s)

    def _solve(self, x: FloatArray, slopes: bool = False) -> tuple[FloatArray, FloatArray]:
        """(log errors, their Jacobian where asked)."""
        r, i = self.rows, self.effects.index
        drawn = np.log(self._drawn(x))
        inputs = [self.vector @ x, self.matrix @ x, drawn[r.of], self.other @ x]
        step_s, sync_s = np.exp(x[i["step_s",]]), np.exp(x[i["sync_s",]])
        each = self._each(*inputs)
        seconds, by_op, by_host = r.total(each, step_s, sync_s)
        errors = np.log(seconds / r.seconds)
        if not slopes:
            return errors, errors
        rows = len(seconds)
        jacobian = np.zeros((rows, len(x)))

        def spread(per_op: FloatArray) -> Matrix:
            return csr_matrix((by_op * per_op, (r.of, np.arange(len(r.of)))), shape=(rows, len(r.of)))

        designs = (self.vector, self.matrix, None, self.other)
        for k, design in enumerate(designs):
            moved = [v + _STEP * (j == k) for j, v in enumerate(inputs)]
            per_op = (self._each(*moved) - each) / _STEP
            if design is not None:
                jacobian += (spread(per_op) @ design).toarray()
                continue
            by_drawn = np.asarray(spread(per_op).sum(axis=1)).ravel()
            names = [i[name,] for name in _MEMORY]
            for j in names:
                jacobian[:, j] += by_drawn * (np.log(self._drawn(x + _STEP * (np.arange(len(x)) == j))) - drawn) / _STEP
            whole = (np.log(self._drawn(x + _STEP * (np.arange(len(x)) == i["share",]))) - drawn) / _STEP
            jacobian += (diags(by_drawn * whole) @ self.memory).toarray()
        jacobian[:, i["step_s",]] += step_s * by_host[0]
        jacobian[:, i["sync_s",]] += sync_s * by_host[1]
        return errors, jacobian

    def fit(self, keep: npt.NDArray[np.bool_]) -> FloatArray:
        x = self.at
        for noise, steps in zip(_LADDER, _STEPS, strict=True):
            x = self._search(keep, x, noise, steps)
        return x

    def _search(self, keep: npt.NDArray[np.bool_], start: FloatArray, noise: float, steps: int) -> FloatArray:
        weights = np.sqrt(sweep_weights(self.rows.sweep)[keep])

        def residuals(z: FloatArray) -> FloatArray:
            return np.concatenate([weights * soft(self.errors(self.at + self.spread * z)[keep], noise), z])

        def jacobian(z: FloatArray) -> FloatArray:
            e, slopes = self._solve(self.at + self.spread * z, slopes=True)
            e, slopes = e[keep], slopes[keep]
            s = soft(e, noise)
            # soft² = 2(√(1+(e/n)²) − 1), so d soft/de = e / (n² · soft · √(1+(e/n)²)); 1/n at zero
            grow = np.where(
                s > 1e-9, e / (noise**2 * np.maximum(s, 1e-9) * np.sqrt(1.0 + (e / noise) ** 2)), 1.0 / noise
            )
            return np.vstack([(weights * grow)[:, None] * slopes * self.spread, np.eye(len(z))])

        found = least_squares(residuals, (start - self.at) / self.spread, jac=jacobian, max_nfev=steps, ftol=1e-5)
        return np.asarray(self.at + self.spread * found.x)

    def left_out(self, label: npt.NDArray[np.str_]) -> FloatArray:
        """Errors of rows predicted without their group, in folds of whole groups."""
        fold = folds(label, _FOLDS)
        out = np.zeros(len(fold))
        for f in np.unique(fold):
            out[fold == f] = self.errors(self.fit(fold != f))[fold == f]
        return out

    def record(self, x: FloatArray) -> dict[str, Any]:
        """Effects as factors; those too small to matter are left out."""
        names = ("base", "engines", "designs", "products", "codes", "formats", "machines", "experts", "memory", "other")
        out: dict[str, Any] = {name: {} for name in names}
        for name, j in self.effects.index.items():
            value = float(f"{(x[j] if name in _EXPONENTS else np.exp(x[j])):.3g}")
            if name[0] in _MEMORY:
                out["memory"][name[0]] = value
            elif len(name) < 3:
                out.setdefault(name[0], {}) if len(name) > 1 else None
                (out[name[0]] if len(name) > 1 else out)[name[-1]] = value
            elif name[0] == "experts":
                out["experts"][name[2]] = value
            elif name[0] != "machines" or abs(x[j]) > _FEWEST:
                out[name[0]].setdefault(name[1], {})[name[2]] = value
        for m in self.rows.machine:
            out["machines"].setdefault(m, {})
        return out


SPLITS: Mapping[str, Callable[[CpuRows], npt.NDArray[np.str_]]] = {
    "model": lambda r: r.model,
    "machine": lambda r: r.machine,
    "source": lambda r: r.source,
}


def _quantiles(errors: FloatArray) -> list[float]:
    q05, q25, q75, q95 = (round(q, 3) for q in residual_quantiles(errors))
    return [min(q05, 0.0), min(q25, 0.0), max(q75, 0.0), max(q95, 0.0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    model = Model(cpu_rows(evidence_folder(arguments.shared) or PACKAGED.parent))
    r = model.rows
    x = model.fit(np.ones(len(r.seconds), dtype=bool))
    card: dict[str, Any] = {"rows": len(r.seconds), **Errors.of(model.errors(x)).card(3)}
    print(f"{len(x)} effects; in sample {card}", flush=True)
    held = {}
    for split, of in SPLITS.items():
        held[split] = model.left_out(of(r))
        card[f"left_out_by_{split}"] = {"groups": len(np.unique(of(r))), **Errors.of(held[split]).card(3)}
        for name in ("all", *np.unique(r.engine)):
            rows = np.ones(len(r.seconds), dtype=bool) if name == "all" else r.engine == name
            phases = [Errors.of(held[split][rows & p]).card(3) for p in (r.prefill, ~r.prefill)]
            print(f"{split:8s} {name:24s} {rows.sum():5d} prefill {phases[0]} other {phases[1]}", flush=True)
    phases_of = {"prefill": r.prefill, "decode": ~r.prefill}
    residual = {
        which: {phase: _quantiles(held[split][rows]) for phase, rows in phases_of.items()}
        for which, split in (("known", "model"), ("new", "machine"))
    }
    if arguments.write:
        write(OUT, "kernels", {**model.record(x), "residual": residual, "fit": card}, depth=1)


if __name__ == "__main__":
    main()
