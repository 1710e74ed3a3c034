"""Studies as tables and charts: published beside computed, and the verdict in words."""

from __future__ import annotations

from collections.abc import Sequence

from waferline.evidence.studies.study import VERDICTS, Check, Study, StudyReport
from waferline.report.tables import simple_table

HEADER = ("quantity", "unit", "published", "computed", "how", "tolerance", "verdict")


def number(value: float | None) -> str:
    """Four significant digits, as a person writes them."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _console() -> object:
    from rich.console import Console

    return Console(width=None if Console().is_terminal else 150, highlight=False)


def print_studies(studies: Sequence[Study]) -> None:
    rows = [[s.name, s.title, s.source.date, s.source.url] for s in studies]
    _print(simple_table(f"{len(studies)} studies", ("name", "title", "date", "source"), rows, left=4))


def print_reports(reports: Sequence[StudyReport]) -> None:
    """Every check of every study, then one line a study."""
    for r in reports:
        _print(_head(r))
        rows = [check_cells(c) for c in r.checks]
        table = simple_table("", HEADER, rows)
        table.columns[0].no_wrap = False
        table.columns[0].min_width = 34
        table.columns[-1].justify = "left"
        _print(table)
    if len(reports) > 1:
        rows = [[r.study.name, *(str(r.count(v)) for v in VERDICTS), f"{r.wall_s:.1f} s"] for r in reports]
        rows.append(["all", *(str(sum(r.count(v) for r in reports)) for v in VERDICTS), f"{_total(reports):.1f} s"])
        _print(simple_table("Studies", ("study", *VERDICTS, "time"), rows))


def check_cells(c: Check) -> list[str]:
    tolerance = c.tolerance.text if c.tolerance else ""
    return [c.quantity, c.unit, number(c.published), number(c.computed), c.how, tolerance, c.said]


def _total(reports: Sequence[StudyReport]) -> float:
    return sum(r.wall_s for r in reports)


def _head(r: StudyReport) -> str:
    s = r.study
    setting = "; ".join(f"{k}: {v}" for k, v in s.configuration.items())
    lines = [f"\n[bold]{s.title}[/bold]  [dim]{s.source.url}, {s.source.date}[/dim]", f"claim: {s.claim}"]
    lines += [f"[dim]{setting}[/dim]"] + ([f"[dim]note: {s.note}[/dim]"] if s.note else [])
    return "\n".join(lines)


def _print(what: object) -> None:
    _console().print(what)  # type: ignore[attr-defined]


def chart_html(report: StudyReport) -> str:
    """A page with computed over published for every quantity that has both."""
    import plotly.graph_objects as go

    pairs = [c for c in report.checks if c.published and c.computed is not None]
    figure = go.Figure()
    for verdict in VERDICTS:
        mine = [c for c in pairs if c.verdict == verdict]
        if mine:
            figure.add_scatter(
                x=[c.computed / c.published for c in mine if c.computed is not None and c.published],
                y=[c.quantity for c in mine],
                mode="markers",
                name=verdict,
                text=[c.said for c in mine],
            )
    figure.add_vline(x=1.0)
    figure.update_layout(title=report.study.title, xaxis_title="computed over published", template="plotly_white")
    return str(figure.to_html(include_plotlyjs=True, full_html=True))
