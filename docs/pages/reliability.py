"""Writes `docs/reliability.md`: what was tried to break waferline, from `benchmarks/results/fuzz.json`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.fuzz.__main__ import RESULTS

from docs.pages.markdown import table, write

_WHAT = {
    "cli": "command lines: every command and option from the tree of commands, with one to three things spoilt",
    "api": "calls: every public callable, one argument of another kind, unit, size or shape",
    "files": "files: every kind that is read, with bytes, words, numbers, lines or nesting damaged",
    "faults": "disks: the n-th open, the n-th rename, or no room after so many bytes, of every command that writes",
}
_TEXT = """# Reliability

What is promised, what was tried to break it, and what nobody tried. `make bench-fuzz` tries it again; the tests try a seeded part.

## Promised

- **A command ends with 0, 2, 3, 4 or 130** and, where it fails, with one printable line; with `--json` also with
  `{{"error": ...}}`. Anything else is called a bug, with how to see its trace and where to report it.
- **A call from Python answers or raises an error of `waferline.errors`.** What comes in through `waferline` is checked against the
  signature of what is called. What nobody foresaw is a `BugError`, whose cause is the error itself.
- **An option or a field is read or refused**, never ignored, and no option is taken for the value of another.
- **A file of somebody else is read or refused**: bounded size, lines, cells and nesting; pipes and devices are not opened.
- **A file that is written is whole, or what was there before is still there**, also where the disk is full or fails. Measurements
  are shown before they are stored, and a store only grows. Of two sweeps to one file one is refused.
- **Nothing of others steers a terminal**, a page or a spreadsheet: names and messages are escaped, long ones cut.

## Tried

{table}

{broken}

Groups with the most inputs: {groups}.

## Tried by tests

A server that stalls, drips, lies, nests deeply, is endless or compressed, redirects or answers 429 and 500 (`tests/measure/`); a
sweep whose process or workers are killed (`tests/search/`); Ctrl-C; standard output closed, full or of few characters
(`tests/cli/`); damaged kernel caches (`tests/kernels/`); the wheel without extras in an empty environment (`make smoke`).

## Not tried

Windows and macOS; loss of power (only kills); memory that fails at the n-th allocation; TLS of servers beyond refusing it;
kernels on a GPU under faults; `measure machine`, `evidence report` and `claim survey` under damaged input beyond a few cases;
`fsync` that fails. A file that takes long but ends is held to ten processor seconds here, not to two.
"""


def _page(runs: list[dict[str, Any]]) -> str:
    rows, groups, broken = [], Counter[str](), Counter[str]()
    for kind, what in _WHAT.items():
        of = [run for run in runs if run["kind"] == kind]
        for run in of:
            groups.update({f"{kind} {name}": n for name, n in run["groups"].items()})
            broken.update(one["what"] for one in run["broken"])
        rows.append([
            what, f"{sum(r['inputs'] for r in of):,}", str(sum(len(r["broken"]) for r in of)),
            f"{sum(r['processor_s'] for r in of):,} s", ", ".join(sorted({r["date"] for r in of})) or "–",
        ])  # fmt: skip
    total = sum(run["inputs"] for run in runs)
    rows.append(["**in all**", f"**{total:,}**", f"**{sum(broken.values())}**", "", ""])
    said = "\n".join(f"- {n} × {what}" for what, n in broken.most_common())
    return _TEXT.format(
        table=table(["what", "inputs", "promises broken", "processor time", "date"], rows),
        broken=f"Broken in these runs:\n\n{said}" if broken else "No promise was broken in these runs.",
        groups=", ".join(f"{name} ({n:,})" for name, n in groups.most_common(8)),
    )


def build() -> list[Path]:
    """Write the page; the paths written."""
    return [write("reliability.md", _page(json.loads(RESULTS.read_text())))]
