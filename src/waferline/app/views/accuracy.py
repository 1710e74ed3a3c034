"""Published measurements beside predictions, a dot a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any
from urllib.parse import urlencode

from waferline.app.page import Page
from waferline.app.question import Control
from waferline.catalog.yaml_file import read_packaged
from waferline.errors import InvalidInputError, WaferlineError
from waferline.evidence.check import check
from waferline.evidence.folder import PACKAGED
from waferline.evidence.outcome import Outcome
from waferline.evidence.report import Report
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import read_rows
from waferline.evidence.scenario import request_of
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.report.charts.prediction import prediction_chart
from waferline.report.charts.scatter import Group, scatter
from waferline.report.evidence import evidence_report
from waferline.report.table import Column, Table
from waferline.text import number, percent
from waferline.workloads.spec import ModelSpec

# metric → title, unit of its axes
_METRICS = {
    "tpot_s": ("Time per output token", "s"),
    "ttft_s": ("Time to first token", "s"),
    "output_tokens_per_s": ("Output tokens per second", ""),
    "prompt_tokens_per_s": ("Prompt tokens per second", ""),
    "total_tokens_per_s": ("Tokens per second, prompt and output", ""),
    "latency_s": ("Latency of a batch", "s"),
}
_NOTE = "The line is agreement. Suspect rows are shown and not scored. A click on a dot leads to its row."
_READ_WITH_CARE = (
    "Constants of waferline are fitted to rows among these; docs/peers.md says how each tool was asked.",
    "note",
)
_CLI = "waferline evidence report --by machine --by source"
_TIERS = ("calibrated", "transferred", "spec only")
_WORST = 40
CONTROLS = (
    Control("metric", "Metric", "choice", "total_tokens_per_s", tuple(_METRICS)),
    Control("source", "Source has", hint="part of its name"),
    Control("machine", "Machine has", hint="such as h100"),
    Control("engine", "Engine has", hint="such as vllm"),
    Control("row", "One row", more=True, hint="its id; a click on a dot fills it in"),
    Control("phase", "Phase", "choice", "any", ("any", "prefill", "decode", "generate", "serve", "train")),
)


@cache
def _all() -> Report:
    """Every row that the package ships, asked once."""
    return check(read_rows(PACKAGED))


def answer(values: Mapping[str, str], _: ModelSpec | None) -> Page:
    """Rows that the filters leave, as `waferline evidence` scores them."""
    if values["row"]:
        return _single(values["row"])
    metric = values["metric"]
    if metric not in _METRICS:
        raise InvalidInputError(f"metrics are {', '.join(_METRICS)}, not '{metric}'")
    left = _all().only(lambda o: o.row.metric == metric and o.answered and _kept(o, values))
    title, unit = _METRICS[metric]
    groups = [_group(tier, [o for o in left.outcomes if o.scored and o.tier == tier]) for tier in _TIERS]
    groups.append(_group("suspect", [o for o in left.outcomes if o.suspect]))
    shown = [group for group in groups if len(group.x)]
    elsewhere: dict[str, Any] = {"cli": _CLI, "python": _python(values, f"o.row.metric == {metric!r}"), "data": left}
    if not shown:
        return Page(sentence="No row is left: take a filter away.", **elsewhere)
    total = left.total
    across, up = (Axis(title=side, unit=unit, log=True) for side in ("published", "predicted"))
    chart = scatter(title, across, up, shown, note=_NOTE, diagonal=True)
    worst = Table(
        f"Farthest off, {min(_WORST, len(left.outcomes))} rows", _COLUMNS, [_row(o) for o in left.worst(_WORST)]
    )
    return Page(
        sentence=f"{total.scored:,} rows scored: the median is {percent(total.median_error)} off, and "
        f"{percent(total.coverage)} lie in their 90 % interval.",
        charts=(chart,),
        blocks=(*evidence_report(left, ["machine", "source"], 0), worst, _peers(), _READ_WITH_CARE),
        **elsewhere,
    )


def _peers() -> Table:
    """Other tools, each on the rows that it and waferline answer (docs/peers.md)."""
    rows = [
        (f"{name} {tool['version']}", tool["answered"], tool["rows"], tool["error"], tool["waferline"])
        for name, tool in read_packaged("peers.yaml")["tools"].items()
    ]
    shares = [Column(title, percent) for title in ("its median error", "waferline's")]
    columns: list[Column | str] = [
        "tool",
        Column("it answers", percent),
        Column("rows that both answer", ",d"),
        *shares,
    ]
    return Table("Other tools on the same rows, of all metrics", columns, rows)


def _single(name: str) -> Page:
    """One row: what was published and where, what is predicted, and where the time of a static batch goes."""
    found = next((o for o in _all().outcomes if o.row.id == name), None)
    if found is None:
        raise InvalidInputError(f"no row is called '{name}'")
    row, request = found.row, request_of(found.row)
    stated = [(f.name, str(v)) for f in fields(row) if (v := getattr(row, f.name)) not in (None, "")]
    told = [("published", row.value), ("predicted", found.predicted), ("90 % interval, low", found.low90),
            ("90 % interval, high", found.high90), ("speed of light", found.light)]  # fmt: skip
    tables = (
        Table("Beside each other", ("", Column(row.metric, number)), told),
        Table("The row", ("field", "value"), stated),
    )
    known = f"known by {found.tier}" if found.tier else ""
    notes = [*found.assumed, *found.notes, *filter(None, (known, found.refused, _why(found).strip()))]
    off = f"{percent(found.error)} off" if found.answered else "not answered"
    return Page(
        sentence=f"{row.model} on {row.hardware}, {row.engine or 'engine not stated'}: {off}. {row.source}",
        charts=() if isinstance(request, Refusal) else (*_interval(found), *_where_time_goes(request)),
        blocks=(*tables, *((note, "note") for note in notes)),
        cli=_CLI,
        python=_python({}, f"o.row.id == {name!r}"),
        data=found,
    )


def _interval(o: Outcome) -> tuple[Chart, ...]:
    """The published figure beside the predicted one with its interval."""
    if not o.answered or o.low90 is None or o.high90 is None:
        return ()
    names, unit = ("predicted", "published"), "s" if o.row.metric.endswith("_s") and "_per_" not in o.row.metric else ""
    bars = [
        Series(name=side, kind="bars", x=(value,), y=(side,), colour=n, low=ends and ends[:1], high=ends and ends[1:])
        for n, (side, value, ends) in enumerate(
            (("predicted", o.predicted, (o.low90, o.high90)), ("published", o.row.value, None))
        )
    ]
    return (Chart(title=f"{o.row.metric}, with its 90 % interval", height=210,
                  panels=(Panel(series=tuple(bars), x=Axis(unit=unit), y=Axis(names=names)),)),)  # fmt: skip


def _where_time_goes(r: Request) -> tuple[Chart, ...]:
    if r.door != "serving" or r.load != "static":
        return ()
    sizes: dict[str, Any] = {name: int(getattr(r, name)) for name in ("batch", "tp", "pp", "ep", "dp")}
    asked = Scenario(model=r.model, machine=r.machine, precision=r.precision, kv=r.kv, engine=r.engine,
                     prompt=int(r.input_tokens), output=int(r.output_tokens) or None, **sizes)  # fmt: skip
    try:
        return (prediction_chart(run(asked)),)
    except WaferlineError:  # what the row leaves out is nothing that a command could ask
        return ()


def _python(values: Mapping[str, str], picked: str) -> str:
    """The rows that these filters leave, in Python."""
    parts = [
        f"{values[name].lower()!r} in o.row.{field}.lower()" for name, field in _FILTERS.items() if values.get(name)
    ]
    parts += [f"o.row.phase == {values['phase']!r}"] if values.get("phase", "any") != "any" else []
    return (
        "from waferline.evidence.check import check\nfrom waferline.evidence.folder import PACKAGED\n"
        "from waferline.evidence.rows import read_rows\n\n"
        f"report = check(read_rows(PACKAGED)).only(lambda o: {' and '.join((picked, *parts))})"
    )


_FILTERS = {"source": "source", "machine": "hardware", "engine": "engine"}  # control → field of a row that has its text


def _kept(outcome: Outcome, values: Mapping[str, str]) -> bool:
    row = outcome.row
    found = all(values[name].lower() in getattr(row, field).lower() for name, field in _FILTERS.items())
    return found and values["phase"] in ("any", row.phase)


def _group(name: str, outcomes: list[Outcome]) -> Group:
    return Group(
        name=name,
        x=[o.row.value for o in outcomes],
        y=[o.predicted or 0.0 for o in outcomes],
        text=[f"{o.row.model} on {o.row.hardware}\n{o.row.engine} {o.row.weight_format}, batch {o.row.batch}\n"
              f"published {o.row.value:.4g}, predicted {o.predicted or 0.0:.4g}\n{o.row.source}\n{o.row.id}{_why(o)}"
              for o in outcomes],
        links=[f"/accuracy?{urlencode({'row': o.row.id})}" for o in outcomes],
    )  # fmt: skip


def _why(outcome: Outcome) -> str:
    return f"\nsuspect: {outcome.suspect}" if outcome.suspect else ""


_COLUMNS = ("row", "machine", "model", "engine", Column("published", number), Column("predicted", number),
            Column("error", percent), "source")  # fmt: skip


def _row(o: Outcome) -> tuple[object, ...]:
    r = o.row
    return (r.id, r.hardware, r.model, r.engine, r.value, o.predicted, o.error, r.source)
