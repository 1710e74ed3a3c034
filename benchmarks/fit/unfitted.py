"""How far constants that were not fitted are off: written to `catalog/engine_unfitted.yaml`.

Every family (an engine on one kind of machine) with runs is predicted by what `engines.yaml` assumes of it, and by the constants
of another family of the engine that may lend it its own. Every family counts alike, however many rows it has.

Run: `python -m benchmarks.fit.unfitted [--shared PATH] [--write]`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.fit.engine_fit import constants_of, is_prefill, log_errors
from benchmarks.fit.engine_parts import Parts, load_parts
from benchmarks.fit.engines import usable
from benchmarks.fit.record import write
from waferline.arrays import FloatArray
from waferline.evidence.folder import evidence_files
from waferline.evidence.rows import read_rows
from waferline.fit import residual_quantiles
from waferline.predict.engine import CONSTANTS, Engine, get_engine, related

OUT = Path("src/waferline/catalog/engine_unfitted.yaml")
_POINTS = np.linspace(0.005, 0.995, 100)  # of a family's errors: what it adds, whatever its size
_FEWEST_ROWS = 8


def stand_ins(engine: Engine, family: str) -> Iterator[tuple[str, dict[str, float]]]:
    """(prior or relative, constants) that would stand in for the ones that `family` has."""
    yield "prior", dict(engine.assumed)
    fitted = {engine.machines: {name: getattr(engine, name) for name in CONSTANTS}, **engine.vendors}
    for other, constants in fitted.items():
        if other not in ("", family) and related(other, family):
            yield "relative", {name: constants.get(name, engine.assumed[name]) for name in CONSTANTS}


def spreads(parts: Parts) -> dict[str, dict[str, list[float]]]:
    """Quantiles by stand-in and pass, and `families`: how many of them each rests on."""
    found: dict[tuple[str, str], list[FloatArray]] = defaultdict(list)
    names = parts.labels(lambda r, q: constants_of(q.engine))
    for name, family in sorted(set(zip(names.tolist(), parts.vendor.tolist(), strict=True))):
        engine = get_engine(name)
        if family != engine.machines and family not in engine.vendors:
            continue
        rows = parts.where((names == name) & (parts.vendor == family))
        prefill = is_prefill(rows)
        for kind, constants in stand_ins(engine, family):
            errors = log_errors(rows, constants)
            for phase, mine in (("prefill", prefill), ("decode", ~prefill)):
                if mine.sum() >= _FEWEST_ROWS:
                    found[kind, phase].append(np.quantile(errors[mine], _POINTS))
    out: dict[str, dict[str, list[float]]] = {}
    for (kind, phase), errors in found.items():
        q05, q25, q75, q95 = (round(q, 4) for q in residual_quantiles(np.concatenate(errors)))
        out.setdefault(kind, {})[phase] = [min(q05, 0.0), min(q25, 0.0), max(q75, 0.0), max(q95, 0.0)]
        print(f"{kind} {phase}: {len(errors)} families, {out[kind][phase]}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rows = [r for f in evidence_files(arguments.shared) if "llm-inference" in f.name for r in read_rows(f)]
    parts = load_parts(rows)
    keep, _ = usable(parts)
    found = spreads(parts.where(keep))
    if arguments.write:
        write(OUT, "residual", found, depth=1)


if __name__ == "__main__":
    main()
