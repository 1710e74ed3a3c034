"""`waferline calibrate`: a user's own measurements become a profile that `--profile` reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waferline.cli import options

if TYPE_CHECKING:
    from waferline.predict.calibrate import Calibration, Observation

THIS_MACHINE = "this-machine"


def calibrate(
    source: Annotated[
        str,
        typer.Argument(
            help="CSV of measured rows (the evidence schema), or this-machine.", metavar="FILE|this-machine"
        ),
    ],
    profile_out: Annotated[
        Path | None, typer.Option("--profile-out", help="Save the profile here.", dir_okay=False)
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Fit an engine's constants to measured rows, and show the error before, after, and on rows left out."""
    if source == THIS_MACHINE:
        from waferline.cli.measure import machine

        machine(save=profile_out, as_json=as_json)
        return
    from waferline.predict.calibrate import calibrate as fit

    observations, skipped = _observations(Path(source))
    found = fit(observations)
    if profile_out is not None:
        found.profile.save(profile_out)
    if as_json:
        _print_json(found, skipped, profile_out)
    else:
        _print(found, skipped, profile_out)


def _observations(path: Path) -> tuple[list[Observation], dict[str, int]]:
    """The rows that a calibration can use, and how many it cannot, by reason."""
    from collections import Counter

    from waferline.evidence.request import Refusal
    from waferline.evidence.rows import read_rows
    from waferline.evidence.scenario import request_of

    found: list[Observation] = []
    skipped: Counter[str] = Counter()
    for row in read_rows(path):
        request = request_of(row)
        if isinstance(request, Refusal):
            skipped[request.kind] += 1
        elif row.suspect:
            skipped["marked as suspect"] += 1
        elif request.door != "serving" or request.load != "static":
            skipped["not a static batch of a generating model"] += 1
        else:
            found.append(_observation(request, row.value))
    return found, dict(skipped)


def _observation(request: Any, value: float) -> Observation:
    from dataclasses import fields

    from waferline.predict.calibrate import Observation

    shared = {
        f.name: getattr(request, f.name) for f in fields(Observation) if f.name not in ("metric", "value", "model")
    }
    return Observation(metric=request.answer, value=value, model=request.model, **shared)


def _print_json(found: Calibration, skipped: dict[str, int], out: Path | None) -> None:
    import json
    from dataclasses import asdict

    data = {
        "engine": found.profile.engine,
        "hardware": found.profile.hardware,
        "rows": found.rows,
        "skipped": skipped,
        "split": found.split,
        "constants": dict(found.profile.constants),
        "errors": {name: asdict(getattr(found, name)) for name in ("before", "after", "held_out")},
        "helps": found.helps,
        "saved": str(out) if out else None,
    }
    typer.echo(json.dumps(data, indent=2, allow_nan=False))


def _print(found: Calibration, skipped: dict[str, int], out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{found.profile.engine} on {found.profile.hardware}: {found.rows} rows")
    for name in ("error of time", "median", "p90", "bias"):
        table.add_column(name, justify="left" if name == "error of time" else "right")
    for name, e in (("before", found.before), ("after, same rows", found.after), (found.split, found.held_out)):
        table.add_row(name, f"{100 * e.median:.1f} %", f"{100 * e.p90:.1f} %", f"{100 * e.bias:+.1f} %")
    console.print(table)
    for name, value in found.profile.constants.items():
        console.print(f"  {name} = {value:.4g}")
    for reason, count in skipped.items():
        console.print(f"  {count} rows not used: {reason}")
    console.print(
        "the profile helps on rows left out"
        if found.helps
        else "the profile does not help on rows left out: keep the catalogue's"
    )
    if out is not None:
        console.print(f"saved: {out} (waferline predict ... --profile {out})")
