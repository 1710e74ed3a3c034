"""Errors on what a fit has not seen, from the files that keep the fitted constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from waferline.catalog.yaml_file import read_packaged
from waferline.report.table import Table, right

_SPLITS = ("model", "machine", "engine", "sweep")
_COLUMNS = ("engine or framework", "machines", *right("rows", "fit", *(f"{s}s left out" for s in _SPLITS)))

EXPLANATION = (
    "The first table's errors are of rows that also took part in fitting engine, load and training constants: they say how "
    "well a few constants describe thousands of rows, not how the next model will do. The table below does: every model "
    "(machine, engine, sweep) is predicted by constants fitted without any of its rows. Median absolute error and, in "
    "brackets, the 90th percentile, in per cent; engines: all metrics but TTFT under load. Operator constants "
    "are fitted on operator measurements alone, never on these rows (accuracy-operators.md)."
)


def left_out() -> str:
    """Every fitted engine and training framework with its errors on groups left out, most rows first."""
    return f"{EXPLANATION}\n\n{Table('', _COLUMNS, _rows()).markdown()}\n\n{overall()}"


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
            cells = (error if several else "", "", "", "")
            yield f"{name} (training)", architecture, str(fit["rows"]), "" if several else error, *cells


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
