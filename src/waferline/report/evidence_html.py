"""The evidence report as one page that needs no network: charts, tables, the worst rows."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import replace

from waferline.catalog.names import slug
from waferline.encode import dumps
from waferline.evidence.report import Report
from waferline.evidence.summary import Figures
from waferline.report import evidence_charts as charts
from waferline.report.charts.chart import Chart
from waferline.report.charts.interactive import figure
from waferline.report.evidence import EXPLANATION, figures_table, worst_table
from waferline.report.table import Table
from waferline.text import percent, signed_percent

_WORST_ROWS = 25
_TABLE_ROWS = 60
_BARS = (("machine", "By machine"), ("engine", "By engine"), ("source", "By source"), ("model", "By model"))
_TABLES = ("phase", "metric", "tier", "stated", "engine", "machine", "source", "model", "format")

_STYLE = """
:root { --ink: #1f2933; --quiet: #616e7c; --line: #e4e7eb; --soft: #f5f7fa; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 32px 24px 64px; color: var(--ink); background: white;
       font: 15px/1.55 Inter, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 48px 0 4px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 0 0 4px; }
p { max-width: 78ch; margin: 4px 0 16px; color: var(--quiet); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px; margin: 24px 0; }
.tile { background: var(--soft); border-radius: 8px; padding: 14px 16px; }
.tile b { display: block; font-size: 26px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--quiet); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 16px; min-width: 0; }
.wide { grid-column: 1 / -1; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; background: var(--soft); }
tr:last-child td { border-bottom: 0; }
td:last-child { white-space: normal; min-width: 220px; color: var(--quiet); }
td.words, th.words { text-align: left; }
details { margin: 12px 0; }
summary { cursor: pointer; padding: 8px 0; font-weight: 600; }
summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
footer { margin-top: 48px; color: var(--quiet); font-size: 13px; }
@media (max-width: 820px) { .charts { grid-template-columns: minmax(0, 1fr); } body { padding: 20px 14px 48px; } }
"""


def page(report: Report, files: Sequence[str]) -> str:
    """The whole page. `files`: names of the files that the rows come from."""
    from plotly.offline import get_plotlyjs

    total = report.total
    body = [
        "<h1>Predictions against published measurements</h1>",
        f"<p>{html.escape(f'{total.rows:,} published values, from')} {html.escape(', '.join(files))}.</p>",
        _tiles(total),
        "<h2>Predicted against published</h2>",
        "<p>Every scored row. On the line the prediction is right. "
        "Colours tell how well the operators behind a prediction are known.</p>",
        f'<div class="charts">{"".join(_scatters(report))}</div>',
        "<h2>How far off, and how often</h2>",
        f'<div class="charts">{_distributions(report)}</div>',
        "<h2>Error by group</h2>",
        "<p>The largest groups with the number of scored rows in brackets. Bars: median error; ticks: 90th percentile "
        "(beyond the axis where there is none).</p>",
        f'<div class="charts">{"".join(_bars(report))}</div>',
        "<h2>All figures</h2>",
        f"<p>{_plain(EXPLANATION)}</p>",
        *(_details(report, grouping) for grouping in _TABLES),
        "<h2>Worst rows</h2>",
        "<p>Scored rows that are off by the largest factor, with what in the row points to a reason.</p>",
        _scrolled(worst_table(report, _WORST_ROWS)),
        "<footer>Every value is a published one with its source; the MLPerf name is a trademark of MLCommons.</footer>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>waferline: evidence</title>'
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>{''.join(body)}</body></html>"
    )


def _plain(text: str) -> str:
    """Markdown emphasis as HTML."""
    out = html.escape(text)
    while "*" in out:
        out = out.replace("*", "<b>", 1).replace("*", "</b>", 1)
    return out


def _tiles(total: Figures) -> str:
    tiles = (
        (percent(total.answered), f"of {total.rows:,} rows predicted"),
        (percent(total.median_error), f"median error of {total.scored:,} scored rows"),
        (percent(total.p90_error), "90th percentile of the error"),
        (signed_percent(total.bias), "bias: above zero, predicted too slow"),
        (percent(total.coverage), "inside their 90 % interval"),
        (f"{total.faster_than_light:,}", "published faster than light, not scored"),
    )
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{v}</b><span>{t}</span></div>' for v, t in tiles)
        + "</div>"
    )


def _scatters(report: Report) -> Iterator[str]:
    for title, unit, metrics in charts.SCATTERS:
        mine = [o for o in report.outcomes if o.scored and o.row.metric in metrics]
        if mine:
            yield _card(charts.agreement(f"{title} ({len(mine):,} rows)", mine, unit))


def _distributions(report: Report) -> str:
    first = _card(charts.distribution("Share of rows within an error", report))
    return first + _card(charts.coverage("Are the intervals honest? By metric", report.by("metric")))


def _bars(report: Report) -> Iterator[str]:
    for grouping, title in _BARS:
        yield _card(charts.error_bars(title, report.by(grouping)))


def _card(chart: Chart) -> str:
    """A chart with its title; drawn from its data when the page loads."""
    name, title = "chart" + slug(chart.title), html.escape(chart.title)
    data = dumps(figure(replace(chart, title="")), indent=None).replace("</", "<\\/")
    draw = f"Plotly.newPlot('{name}',f.data,f.layout,{{responsive:true,displaylogo:false,displayModeBar:false}})"
    return f'<div class="card"><h3>{title}</h3><div id="{name}"></div><script>{{const f={data};{draw}}}</script></div>'


def _details(report: Report, grouping: str) -> str:
    opened = " open" if grouping in ("phase", "metric") else ""
    body = _scrolled(figures_table(report.by(grouping), grouping, most=_TABLE_ROWS))
    return f"<details{opened}><summary>By {grouping}</summary>{body}</details>"


def _scrolled(table: Table) -> str:
    return f'<div class="scroll">{table.html()}</div>'
