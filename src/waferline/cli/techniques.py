"""`waferline techniques`: what `--with` takes, where it comes from and how far it was checked."""

from __future__ import annotations

from typing import Annotated

import typer

from waferline.cli.options import Json
from waferline.cli.output import emit


def techniques(
    name: Annotated[str | None, typer.Argument(help="One of them, with its parameters.")] = None,
    as_json: Json = False,
) -> None:
    """Techniques for `--with NAME[:key=value,...]`: what each changes, its parameters, source, limits and checks."""
    from waferline.errors import unknown
    from waferline.predict.techniques import TECHNIQUES
    from waferline.report.techniques import technique_report, techniques_data, techniques_report

    if name is not None and name not in TECHNIQUES:
        raise unknown("technique", name, TECHNIQUES)
    shown = TECHNIQUES if name is None else {name: TECHNIQUES[name]}
    report = techniques_report if name is None else technique_report
    emit(as_json, techniques_data(shown), lambda: report(shown))
