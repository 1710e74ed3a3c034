"""`waferline calibrate`: a user's own measurements become a profile that `--profile` reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waferline.cli.options import Json
from waferline.cli.output import emit
from waferline.report.table import Block, Column, Table

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
    as_json: Json = False,
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
    emit(as_json, _data(found, skipped, profile_out), lambda: _report(found, skipped, profile_out))


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


def _data(found: Calibration, skipped: dict[str, int], out: Path | None) -> dict[str, Any]:
    return {
        "engine": found.profile.engine,
        "hardware": found.profile.hardware,
        "rows": found.rows,
        "skipped": skipped,
        "split": found.split,
        "constants": found.profile.constants,
        "errors": {name: getattr(found, name) for name in ("before", "after", "held_out")},
        "helps": found.helps,
        "saved": out,
    }


def _report(found: Calibration, skipped: dict[str, int], out: Path | None) -> Iterator[Block]:
    errors = (("before", found.before), ("after, same rows", found.after), (found.split, found.held_out))
    rows = [(name, e.median, e.p90, e.bias) for name, e in errors]
    title = f"{found.profile.engine} on {found.profile.hardware}: {found.rows} rows"
    columns = (Column("median", ".1%"), Column("p90", ".1%"), Column("bias", "+.1%"))
    yield Table(title, ("error of time", *columns), rows)
    yield from (f"  {name} = {value:.4g}" for name, value in found.profile.constants.items())
    yield from (f"  {count} rows not used: {reason}" for reason, count in skipped.items())
    helps = "helps on rows left out" if found.helps else "does not help on rows left out: keep the catalogue's"
    yield f"the profile {helps}"
    if out is not None:
        yield f"saved: {out} (waferline predict ... --profile {out})"
