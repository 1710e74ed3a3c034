"""One model on one machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from waferline.app.page import Page
from waferline.app.question import SCENARIO, command, python, scenario_of
from waferline.errors import UnsupportedError
from waferline.predict.run import run
from waferline.report.advice import advice
from waferline.report.answer import answer_report
from waferline.report.charts.memory import memory_chart
from waferline.report.charts.prediction import prediction_chart
from waferline.report.table import Block, Table
from waferline.workloads.spec import ModelSpec

CONTROLS = SCENARIO


def answer(values: Mapping[str, str], model: ModelSpec | None) -> Page:
    """The prediction, as `waferline predict` gives it. Raises: as `run`."""
    scenario = scenario_of(values, model)
    found = run(scenario)
    blocks = tuple(answer_report(found))
    charts = []
    for draw in (memory_chart, prediction_chart):
        try:
            charts.append(draw(found))
        except UnsupportedError:  # a wafer's answer names no operators, a network's no parts of its memory
            continue
    return Page(
        sentence=advice(scenario, found),
        tiles=tuple(_tiles(blocks)),
        charts=tuple(charts),
        blocks=blocks,
        cli=command("predict", values),
        python=python(values),
        data=found,
        alarm=not found.fits,
    )


_FIRST = ("TTFT", "TPOT (ITL)", "tokens/s per user", "tokens/s in total", "latency", "step time", "energy per token",
          "cost per million tokens")  # fmt: skip


def _tiles(blocks: Sequence[Block]) -> Iterator[tuple[str, str, str]]:
    """Figures of the table of speeds that are read first, with their interval, or the speed of light where none is known."""
    speeds = next((b for b in blocks if isinstance(b, Table) and b.title == "Speed"), None)
    for name, expected, span, light in speeds.cells() if speeds else ():
        if name in _FIRST and expected:
            yield name, expected, span or (f"light: {light}" if light else "")
