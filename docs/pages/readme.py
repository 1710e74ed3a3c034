"""Fills the generated parts of README.md: the first result, the accuracy summary and the speed, between their markers."""

from __future__ import annotations

import json
import re
from pathlib import Path

from docs.pages.left_out import overall
from docs.pages.markdown import table
from waferline.evidence.check import check
from waferline.evidence.folder import evidence_rows
from waferline.evidence.summary import figures
from waferline.evidence.targets import TARGETS
from waferline.text import metric, percent

README = Path(__file__).parents[2] / "README.md"
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "predict.json"
DEMO = "predict llama-3-8b --on h100 --precision int4 --batch 1 --prompt 2048 --output 256"


def _demo() -> str:
    import contextlib
    import io

    from waferline.cli import run

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        run(DEMO.split())
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "```\n$ waferline " + DEMO + "\n" + "\n".join(lines).strip() + "\n```"


def _accuracy() -> str:
    outcomes = check(evidence_rows()).outcomes
    rows = []
    for target in TARGETS:
        f = figures(target.title, [o for o in outcomes if target.picks(o)])
        if f.scored:
            rows.append(
                [target.title, f"{f.rows:,}", percent(f.answered), percent(f.median_error), percent(f.p90_error)]
            )
    columns = ["published rows", "rows", "answered", "median error", "90th percentile"]
    after = (
        "Constants of engines and frameworks are fitted on rows among these, so the table says how well a few constants "
        f"describe thousands of rows. {overall()} No row is dropped: refusals carry a reason, and misses are in the card."
    )
    return f"{table(columns, rows)}\n\n{after}"


def _speed() -> str:
    if not RESULTS.is_file():
        return "Not measured on this machine yet."
    figures = json.loads(RESULTS.read_text())
    grid, sweep = figures["serving grid"], figures["10^7-point sweep"]
    lines = [
        f"- {metric(grid['best_points_per_cpu_s'])} scenario points per second and core with memory, energy and bottleneck; "
        f"{metric(figures['serving grid with intervals']['best_points_per_cpu_s'])} with intervals;",
        f"- {metric(sweep['points'])} points in {metric(sweep['peak_memory_bytes'], 'B')} of memory;",
        f"- `import waferline` in {metric(figures['import waferline']['median_s'], 's')}, the command above in "
        f"{metric(figures['waferline predict']['median_s'], 's')}.",
    ]
    return "\n".join(lines)


_PARTS = {"demo": _demo, "accuracy": _accuracy, "speed": _speed}


def build() -> list[Path]:
    """Rewrite the generated parts of README.md in place."""
    text = README.read_text(encoding="utf-8")
    for name, make in _PARTS.items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.S)
        text = pattern.sub(lambda m, body=make(): f"{m[1]}{body}\n{m[2]}", text)
    README.write_text(text, encoding="utf-8")
    return [README]
