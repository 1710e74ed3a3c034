"""Every benchmark in turn: `make bench`, or `python -m benchmarks [NAME ...] [--OPTION ...]`; options go to each of them."""

from __future__ import annotations

import itertools
import subprocess
import sys

# name -> module that runs on its own, with a table on standard output
BENCHMARKS = {
    "predict": "benchmarks.predict",
    "serving": "benchmarks.serving",
    "plan": "benchmarks.plan",
    "sweep": "benchmarks.sweep",
    "wafer": "benchmarks.wafer",
    "kernels": "benchmarks.kernels",
}


def main(arguments: list[str]) -> int:
    """Run the benchmarks named before the first option, or all; the exit code of the first that failed."""
    names = list(itertools.takewhile(lambda a: not a.startswith("-"), arguments))
    options = arguments[len(names) :]
    unknown = [n for n in names if n not in BENCHMARKS]
    if unknown:
        print(f"unknown benchmark {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    codes = []
    for name in names or BENCHMARKS:
        print(f"== {name}", flush=True)
        codes.append(subprocess.run([sys.executable, "-m", BENCHMARKS[name], *options], check=False).returncode)
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
