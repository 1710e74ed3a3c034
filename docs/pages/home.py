"""The first page of the site: what waferline is, a picture of predicted against published, and the table that says how well."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from docs.pages.markdown import DOCS, table, write
from docs.pages.peers import RESULTS
from docs.pages.readme import unseen
from waferline.report.charts import save
from waferline.text import percent

PICTURE = DOCS / "images" / "accuracy.png"


def _peers() -> str:
    """Each tool beside waferline, on the rows that both answer."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))["peers"]
    rows = []
    for name, peer in found.items():
        if not peer["failed"]:
            every, same = peer["all"], peer["all"]["same_rows"]
            errors = (percent(same[who]["median_error"]) for who in ("peer", "waferline"))
            rows.append(
                [f"{name} {peer['version']}", percent(every["answered_share"]), f"{same['peer']['rows']:,}", *errors]
            )
    return table(["tool", "it answers", "rows that both answer", "its median error", "waferline's"], rows)


def page() -> str:
    """The whole page."""
    return f"""# waferline

**How fast, how big and how costly is an ML model on a machine, from a microcontroller to a wafer, and how do we know?**

An answer takes a second, from specification sheets and model configurations, with an interval and the speed-of-light
bound beside every number. What is predicted can be simulated, cycle by cycle or request by request, and
measured on the machine at hand.

![Predicted against published values; on the line they agree]({PICTURE.relative_to(DOCS)})

[Ten minutes](start.md) · [the lessons](lessons/memory-wall.md) · [in a browser](app.md) · [how accurate](accuracy.md) ·
[add to it](contributing.md)

## How well, on what nobody tuned to

{unseen()}

## Beside others

{_peers()}

Constants of waferline are fitted to rows among these; [side by side](peers.md) says what that means and how each tool was asked.

## What it cannot tell you

Every answer ends with what it does not model. A machine without measured relatives is answered from its sheet, and says so; what no
source supports is refused with a reason.
"""


def draw() -> Path:
    """Throughput of every published row beside its prediction."""
    from waferline.app.views import VIEWS

    view = VIEWS["accuracy"]
    chart, *_ = view.answer({c.name: c.value for c in view.controls}, None).charts
    save(replace(chart, width=780, height=450), PICTURE)
    return PICTURE


def build() -> list[Path]:
    """Write docs/index.md and its picture."""
    return [draw(), write("index.md", page())]
