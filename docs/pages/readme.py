"""Fills the generated parts of README.md: the first result, the accuracy summary and the speed, between their markers."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.peers import speed

from docs.pages.left_out import overall
from docs.pages.markdown import table
from waferline.evidence.check import check
from waferline.evidence.folder import evidence_rows
from waferline.evidence.summary import figures
from waferline.evidence.targets import TARGETS
from waferline.text import metric, percent

README = Path(__file__).parents[2] / "README.md"
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "predict.json"
LEFT_OUT = RESULTS.with_name("left_out.json")
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


def unseen() -> str:
    """Engines on GPUs, with every row predicted by constants that saw nothing of its model, machine or lab."""
    kept = json.loads(LEFT_OUT.read_text(encoding="utf-8"))
    splits = {"model": "its model", "machine": "its machine", "lab": "who published it"}
    rows = [[title, f"{row['rows']:,}", *(_told(row[s]) for s in splits)] for title, row in kept["classes"].items()]
    columns = ["published rows on GPUs", "rows", *(f"without {what}" for what in splits.values())]
    return f"""{table(columns, rows)}

Median error of constants that were fitted without any row of the same model, machine or publisher, and in brackets how many
measured values lie inside the 90 % interval that the errors of other groups give, and how many times as large its upper end is
as its lower one (median): where nothing of an engine is left, it holds them because it says next to nothing
(`python -m benchmarks.fit.left_out`, {kept["date"]})."""


def _told(figures: dict[str, float]) -> str:
    return f"{100 * figures['median']:.1f} % ({percent(figures['cover'])}, ×{figures['width']:.2g})"


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
    return f"{unseen()}\n\nThe same and all others, with constants as they ship:\n\n{table(columns, rows)}\n\n{after}"


# What the table calls each row of the benchmark, and what a peer that takes one scenario a call is beside it.
_SPEEDS = {
    "one": ("one scenario, a call each", "points"),
    "zipped": ("500,000 points of batch and context, one call", "points"),
    "zipped-intervals": ("the same with intervals", None),
    "grid": ("a grid of batch × context × precision, one call", "points"),
    "grid-intervals": ("the same with intervals", None),
    "configurations": ("1,000 models × machines × degrees × formats, a call each", "configurations"),
    "evidence": ("published rows (`waferline evidence check`)", None),
}


def _speed() -> str:
    if not RESULTS.is_file():
        return "Not measured on this machine yet."
    results = json.loads(RESULTS.read_text())
    figures = results["rows"]
    peers = {name: figures[name] for name in speed.NAMES if "failed" not in figures[name]}
    rows = []
    for name, (title, theirs) in _SPEEDS.items():
        beside = [metric(p[theirs]["per_cpu_s"]) if theirs else "–" for p in peers.values()]
        rows.append([title, f"**{metric(figures[name]['per_cpu_s'])}**", *beside])
    answered = [f"{p['configurations']['answered']:,} of {p['configurations']['asked']:,}" for p in peers.values()]
    rows.append(["of the 1,000, answered", f"{figures['configurations']['count']:,}", *answered])
    imports = [f"{p['import_cpu_s']:.2f} s" if p["import_cpu_s"] else "–" for p in peers.values()]
    rows.append(["import, a process of its own, CPU time", f"{figures['import']['cpu_s']:.2f} s", *imports])
    head = ["scenarios per CPU second, warm", "waferline", *(f"{n} {p['version']}".strip() for n, p in peers.items())]
    sweep, start, command = figures["sweep"], figures["import"]["median_s"], figures["command"]["median_s"]
    return f"""{table(head, rows)}

One core, {results["processor"]}, Python {results["python"]}, {results["date"]}. Peers take one scenario a call, so a call each is
what stands beside our arrays; they answer TTFT and time per token, we memory, energy, cost and bottleneck too.
`llm-viewer-loop` is the arithmetic of LLM-Viewer, which is no package, written as a plain loop over a layer's operators.

- {metric(sweep["count"])} points in {metric(sweep["peak_memory_bytes"], "B")} of memory, {metric(sweep["per_cpu_s"])} a CPU second;
- `import waferline` in {metric(start, "s")}, the command above in {metric(command, "s")}."""


_PARTS = {"demo": _demo, "accuracy": _accuracy, "speed": _speed}


def build() -> list[Path]:
    """Rewrite the generated parts of README.md in place."""
    text = README.read_text(encoding="utf-8")
    for name, make in _PARTS.items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.S)
        text = pattern.sub(lambda m, body=make(): f"{m[1]}{body}\n{m[2]}", text)
    README.write_text(text, encoding="utf-8")
    return [README]
