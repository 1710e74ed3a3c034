"""One card of machines outside data centres and of networks of one pass, with whole groups left out: models, machines, sources.

Language models on CPUs, other language models by the engines of `edge` and `mlx`, and networks of one pass. A row whose family has
nothing left without its group is predicted by what the fit starts from. Coverage: of the interval that the errors of all other
groups left out give, by class.

Run: `python -m benchmarks.fit.left_out_edge [--shared PATH]`; minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.fit import passes
from benchmarks.fit.cpu import Model
from benchmarks.fit.cpu_rows import cpu_rows
from benchmarks.fit.engine_fit import constants_of, is_prefill, lab
from benchmarks.fit.engine_parts import load_parts
from benchmarks.fit.engines import SERVED, usable
from benchmarks.fit.left_out import held_errors
from waferline.arrays import FloatArray
from waferline.evidence.folder import PACKAGED, evidence_folder
from waferline.evidence.published_units import in_si
from waferline.evidence.rows import read_rows
from waferline.fit import Errors, left_out, residual_quantiles
from waferline.predict.engine import related

_FILES = ("edge-inference", "accelerators-inference", "papers", "llm-inference")
_SPLITS = ("model", "machine", "source")
Found = tuple[
    npt.NDArray[np.str_], dict[str, FloatArray], dict[str, npt.NDArray[np.str_]]
]  # classes; errors, groups by split


def on_cpus(folder: Path) -> Found:
    model = Model(cpu_rows(folder))
    r = model.rows
    groups = {"model": r.model, "machine": r.machine, "source": r.source}
    classes = np.where(r.prefill, "CPU prefill", "CPU decode")
    return classes, {split: model.left_out(label) for split, label in groups.items()}, groups


def on_others(folder: Path) -> Found:
    """Language models that neither CPUs nor the serving engines of NVIDIA's GPUs ran: those have cards of their own."""
    parts = load_parts([in_si(r) for name in _FILES for r in read_rows(folder / f"{name}.csv.gz")])
    p = parts.where(usable(parts)[0] & ~np.char.endswith(parts.vendor, " cpu"))
    engine = p.labels(lambda r, q: constants_of(q.engine))
    scored = ~((p.vendor == "nvidia gpu") & np.isin(engine, SERVED)) & ~np.isin(engine, ("static", "none"))
    scored &= np.array([r.id.startswith(("edge", "accinf")) for r in p.rows])
    of: Mapping[str, Callable] = {
        "model": lambda r, q: q.model,
        "machine": lambda r, q: q.hardware,
        "source": lambda r, q: lab(r),
    }
    kinds = np.where(is_prefill(p), " prefill", " decode")
    soc = np.where(np.char.startswith(p.vendor, "apple"), "Apple", "accelerator")
    return (
        np.char.add(soc, kinds)[scored],
        {s: held_errors(p, f, scored)[scored] for s, f in of.items()},
        {s: p.labels(f)[scored] for s, f in of.items()},
    )


def of_one_pass(folder: Path) -> Found:
    families = {key: passes.Family(rows) for key, rows in passes.by_family(folder).items()}
    errors: dict[str, list[FloatArray]] = {s: [] for s in _SPLITS}
    groups: dict[str, list[npt.NDArray[np.str_]]] = {s: [] for s in _SPLITS}
    for key, family in families.items():
        for split in _SPLITS:
            label = getattr(family, split)
            held = family.left_out(label) if len(label) >= passes.FEWEST else None
            errors[split].append(_by_relative(families, key, split) if held is None else held)
            groups[split].append(label)
    joined = {s: np.concatenate(e) for s, e in errors.items()}
    classes = np.full(len(joined["model"]), "one pass")
    return classes, joined, {s: np.concatenate(g) for s, g in groups.items()}


def _by_relative(families: Mapping[tuple[str, str], passes.Family], key: tuple[str, str], split: str) -> FloatArray:
    """Errors of a family of which nothing is left without its group: by the engine on the machines that lend it theirs, else by
    what a fit starts from."""
    near = (
        f for (engine, kind), f in families.items() if engine == key[0] and kind != key[1] and related(kind, key[1])
    )
    lender = max((f for f in near if len(f.seconds) >= passes.FEWEST), key=lambda f: len(f.seconds), default=None)
    mine = families[key]
    if lender is None:
        return mine.log_errors(passes.START)
    return mine.log_errors(lender.fit(~np.isin(getattr(lender, split), getattr(mine, split))))


def covered(errors: FloatArray, groups: npt.NDArray[np.str_], classes: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """Whether each row lies in the 90 % interval that the other groups of its class give."""
    hit = np.zeros(len(errors), dtype=bool)
    for one in np.unique(classes):
        rows = np.flatnonzero(classes == one)
        for inside in left_out(groups[rows]):
            low, _, _, high = residual_quantiles(errors[rows][~inside])
            hit[rows[inside]] = (-errors[rows][inside] >= min(low, 0.0)) & (-errors[rows][inside] <= max(high, 0.0))
    return hit


def lines(found: Iterable[Found]) -> list[str]:
    out = [f"{'class':22s} {'rows':>5s}" + "".join(f" | {s + 's left out':>26s}" for s in _SPLITS)]
    for classes, errors, groups in found:
        hits = {s: covered(errors[s], groups[s], classes) for s in _SPLITS}
        for one in np.unique(classes):
            rows = classes == one
            line = f"{one:22s} {rows.sum():5d}"
            for s in _SPLITS:
                e = Errors.of(errors[s][rows])
                line += f" | {100 * e.median:5.1f} % p90 {100 * e.p90:4.0f} in {100 * hits[s][rows].mean():3.0f} %"
            out.append(line)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared")
    folder = evidence_folder(parser.parse_args().shared) or PACKAGED.parent
    print("\n".join(lines(part(folder) for part in (on_cpus, on_others, of_one_pass))))


if __name__ == "__main__":
    main()
