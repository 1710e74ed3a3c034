"""Fit engines on machines of the edge, accelerator and paper tables, into `catalog/engine_fits_edge.yaml`.

Every kind of machine on which an engine has no fit from `engines`; what `cpu` fits of an engine stands before it.
Rows without a stated prompt count, too: few of these tables state all.

Run, after `engines`: `python -m benchmarks.fit.edge [--shared PATH] [--write]`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.fit import engine_report
from benchmarks.fit.engine_fit import ON_EDGE_TABLES, constants_of
from benchmarks.fit.engine_parts import load_parts
from benchmarks.fit.engines import KEPT_APART, families, usable
from benchmarks.fit.record import write
from waferline.catalog.yaml_file import read_packaged
from waferline.evidence.folder import PACKAGED, evidence_folder
from waferline.evidence.published_units import in_si
from waferline.evidence.rows import read_rows
from waferline.predict.engine import get_engine

_FILES = ("edge-inference", "accelerators-inference", "papers", "llm-inference", "other-inference")
OUT = Path("src/waferline/catalog/engine_fits_edge.yaml")


def _is_new(name: str, vendor: str, fitted: dict) -> bool:
    """Whether no fit of `engines` stands for these machines."""
    on_cpus = read_packaged("cpu_kernels.yaml")["kernels"]["engines"]
    if vendor.endswith(" cpu") and {name, get_engine(name).runs} & on_cpus.keys():
        return False
    record = fitted.get(name, {})
    if name in ON_EDGE_TABLES:
        return True
    known = {record.get("fit", {}).get("machines"), *record.get("vendors", {})}
    return vendor not in known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    folder = evidence_folder(arguments.shared) or PACKAGED.parent
    rows = [in_si(r) for name in _FILES for r in read_rows(folder / f"{name}.csv.gz")]
    engines = read_packaged("engine_fits.yaml")["engines"]
    parts = load_parts(rows)
    keep, _ = usable(parts)
    apart = np.array([(r.hardware, r.model) in KEPT_APART for r in parts.rows])
    others = parts.where(keep & ~apart)
    names = parts.labels(lambda r, q: constants_of(q.engine))
    new = {(n, v): _is_new(n, v, engines) for n, v in set(zip(names.tolist(), parts.vendor.tolist(), strict=True))}
    keep &= [new[n, v] for n, v in zip(names.tolist(), parts.vendor.tolist(), strict=True)]
    found: dict[str, dict] = {}
    for family in families(parts.where(keep), others):
        print(engine_report.line(family))
        if family.helps:
            found.setdefault(family.engine, {})[family.vendor] = family.entry()
    if arguments.write:
        write(OUT, "families", found, depth=2, digits=9)


if __name__ == "__main__":
    main()
