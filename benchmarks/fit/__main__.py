"""Fit constants again: `python -m benchmarks.fit [NAME ...] [--OPTION ...]`; every fit in its order without names."""

from __future__ import annotations

import itertools
import subprocess
import sys

# In this order: the page of operators is written from the fits before it, engines are fitted over operators, power and loads over
# engines.
FITS = (
    "operators",
    "transfer",
    "card",
    "engines",
    "cpu",
    "edge",
    "passes",
    "unfitted",
    "power",
    "drafting",
    "loads",
    "steps",
    "serving",
    "training",
    "guesses",
    "wafer",
)


def main(arguments: list[str]) -> int:
    """Run the fits named before the first option, or all; options go to each. The exit code of the first that failed."""
    names = list(itertools.takewhile(lambda a: not a.startswith("-"), arguments))
    unknown = [n for n in names if n not in FITS]
    if unknown:
        print(f"unknown fit {unknown[0]!r}; there are: {', '.join(FITS)}", file=sys.stderr)
        return 2
    for name in names or FITS:
        print(f"== {name}", flush=True)
        line = [sys.executable, "-m", f"benchmarks.fit.{name}", *arguments[len(names) :]]
        code = subprocess.run(line, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
