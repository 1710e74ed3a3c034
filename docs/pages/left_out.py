"""Errors on what a fit has not seen, from the files that keep the fitted constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from waferline.catalog.yaml_file import packaged_names, read_packaged
from waferline.predict.engine import CONSTANTS
from waferline.report.table import Table, right

_SPLITS = ("model", "machine", "engine")
_COLUMNS = ("engine or framework", "machines", *right("rows", "fit", *(f"{s}s left out" for s in _SPLITS)))

EXPLANATION = (
    "The first table's errors are of rows that also took part in fitting engine, load and training constants: they say how "
    "well a few constants describe thousands of rows, not how the next model will do. The table below does: every model "
    "(machine, engine) is predicted by constants fitted without any of its rows. Median absolute error and, in "
    "brackets, the 90th percentile, in per cent; engines: all metrics but TTFT under load. Operator constants "
    "are fitted on operator measurements alone, never on these rows (accuracy-operators.md)."
)


def left_out() -> str:
    """Every fitted engine and training framework with its errors on groups left out, most rows first."""
    return f"{EXPLANATION}\n\n{Table('', _COLUMNS, _rows()).markdown()}\n\n{overall()} {constants()}"


def _rows() -> list[tuple[str, ...]]:
    return sorted((*_engines(), *_stacks()), key=lambda row: -int(row[2]))


def _engines() -> Iterator[tuple[str, ...]]:
    for name, engine in read_packaged("engine_fits.yaml")["engines"].items():
        own = engine.get("fit")
        fits = ([(own.get("machines", ""), own)] if own else []) + [
            (machines, vendor["fit"]) for machines, vendor in engine.get("vendors", {}).items() if "fit" in vendor
        ]
        for machines, fit in fits:
            yield name, machines, str(fit["rows"]), _error(fit), *(_error(fit.get(f"left_out_by_{s}")) for s in _SPLITS)


def _stacks() -> Iterator[tuple[str, ...]]:
    for name, stack in read_packaged("training_stacks.yaml")["stacks"].items():
        for architecture, fit in stack.items():
            if "rows" not in fit or (architecture == "any" and len(stack) > 1):
                continue
            several = int(fit["models"]) > 1
            error = f"{100 * fit['median_error']:.1f} ({100 * fit['p90_error']:.0f})"
            cells = (error if several else "", "", "")
            yield f"{name} (training)", architecture, str(fit["rows"]), "" if several else error, *cells


def constants() -> str:
    """How many constants are fitted, by what they belong to."""
    families = [
        family
        for name in ("engine_fits.yaml", "engine_fits_edge.yaml")
        for family in _families(read_packaged(name))
        if "fit" in family
    ]
    engines = sum(bool(family.get(name)) for family in families for name in CONSTANTS)
    operators = [
        engine
        for name in packaged_names("efficiency")
        for formats in read_packaged(f"efficiency/{name}.yaml").get("records", {}).values()
        for kernels in formats.values()
        for engine in kernels.values()
    ]
    records = [f for stack in read_packaged("training_stacks.yaml")["stacks"].values() for f in stack.values()]
    stacks = sum("rows" in f and f["median_error"] != f["apart"]["median"] for f in records)
    loads = read_packaged("loads.yaml")["engines"].values()
    return (
        f"Fitted constants: {engines} of {len(families)} engines on kinds of machine, "
        f"{sum(len(e['c']) for e in operators):,} of {len(operators)} operators by machine, format and kernel, "
        f"{4 * sum('ttft' in e.get('fit', {}) for e in loads)} of loads, {2 * stacks + 1} of training and 3 of power."
    )


def _families(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every engine on one kind of machine."""
    for families in document.get("families", {}).values():
        yield from families.values()
    for engine in document.get("engines", {}).values():
        yield from (engine, *engine.get("vendors", {}).values())


def _error(fit: Mapping[str, Any] | None) -> str:
    return "" if fit is None else f"{100 * fit['median']:.1f} ({100 * fit['p90']:.0f})"


def overall() -> str:
    """The row-weighted median over engines and frameworks of their errors with models left out."""
    weighted = sorted((float(row[4].split()[0]), int(row[2])) for row in _rows() if row[4])
    half, seen = sum(n for _, n in weighted) / 2, 0
    for error, n in weighted:
        seen += n
        if seen >= half:
            return (
                f"Half of all rows belong to an engine or framework whose median error is {error:.1f} % or less with "
                "models left out."
            )
    return ""
