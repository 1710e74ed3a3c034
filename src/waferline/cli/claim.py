"""`waferline claim`: is what somebody says about a machine possible, and is it likely?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waferline.cli.options import Json, Shared
from waferline.cli.output import emit, progress

if TYPE_CHECKING:
    from waferline.evidence.claims.claim import Claim

app = typer.Typer(help="Put performance claims to the laws of arithmetic, capacity and light.", no_args_is_help=True)


@app.command("check")
def check(
    claim: Annotated[str, typer.Argument(help='A sentence ("Llama-3-8B fp8 on H100: ...") or a claims.yaml.')],
    as_json: Json = False,
) -> None:
    """Judge every claim: plausible, optimistic (beyond our 95 % interval), infeasible (which law), or unverifiable."""
    from waferline.evidence.claims.judge import judge_claims
    from waferline.report.claims import judgement_report

    judged = judge_claims(_claims(claim))
    emit(as_json, judged, lambda: judgement_report(judged))


def _claims(text: str) -> list[Claim]:
    from waferline.evidence.claims.sentence import claims_of
    from waferline.evidence.claims.written import read_claims

    is_file = text.endswith((".yaml", ".yml")) and " " not in Path(text).name
    return read_claims(Path(text)) if is_file else claims_of(text)


@app.command("survey")
def survey_rows(shared: Shared = None, as_json: Json = False) -> None:
    """Judge every published row at hand: how many impossible ones are found, how many sound ones wrongly flagged."""
    from waferline.evidence.claims.survey import survey
    from waferline.evidence.folder import evidence_rows
    from waferline.report.claims import survey_report

    rows = evidence_rows(shared)
    with progress("judging", len(rows)) as advance:
        result = survey(rows, advance)
    emit(as_json, result, lambda: survey_report(result))
