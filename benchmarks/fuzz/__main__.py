"""`python -m benchmarks.fuzz [cli|api|files|faults ...] [--count N] [--seed N]`: hostile inputs for long.

What was tried and what broke is kept by kind and seed in `benchmarks/results/fuzz.json`, of which `docs/reliability.md` is made.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.fuzz import api, commands, contract, faults, files
from benchmarks.fuzz.places import make
from waferline.files import write_text
from waferline.version import __version__

RESULTS = Path(__file__).parents[1] / "results" / "fuzz.json"
_MEMORY_BYTES = 8 << 30  # of address space: more is an error that a case must survive
_COMPILES = ("generate",)  # kernels, for minutes, in a home that has none
_KEPT = 500  # cases
_LINES = {"cli": 16_000, "api": 60_000, "files": 25_000, "faults": 0}


def cli(place: Path, count: int, draw: random.Random) -> Iterator[tuple[str, str | None, str]]:
    """(group, what is broken, the case): command lines."""
    brief = [line for line in commands.lines() if " ".join(line.words) not in (*commands.LASTING, *_COMPILES)]
    for _ in range(count):
        ending = contract.run(commands.case(draw, brief))
        yield f"exit code {ending.code}", contract.breach(ending), repr(ending.args)


def calls(place: Path, count: int, draw: random.Random) -> Iterator[tuple[str, str | None, str]]:
    for call in api.calls():  # compiles loops, once
        if call.name == "simulate_serving":
            call.make()(**call.given)
    for case in api.sample(draw, count):
        yield case.call.name, api.breach(case), str(case)


def damaged(place: Path, count: int, draw: random.Random) -> Iterator[tuple[str, str | None, str]]:
    good, first = files.contents(place), draw.randrange(1 << 30)
    for i in range(count):
        case = files.Damaged(list(good)[i % len(good)], first + i)
        yield case.name, files.breach(case, place, good), str(case)


def disk(place: Path, count: int, draw: random.Random) -> Iterator[tuple[str, str | None, str]]:
    for writer in faults.writers():
        for fault, wrong, _ in faults.tried(writer, place):
            yield f"{' '.join(writer.words)}: {fault.kind}", wrong, f"{writer.args} {fault}"


KINDS: Mapping[str, Callable[[Path, int, random.Random], Iterator[tuple[str, str | None, str]]]] = {
    "cli": cli,
    "api": calls,
    "files": damaged,
    "faults": disk,
}


def tried(kind: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Run `count` cases of a kind in a place of its own, of faults every one; what is counted so far, every so often."""
    groups, broken, started = Counter[str](), [], time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        place = make(Path(folder))
        os.chdir(place)
        os.environ["HOME"] = folder
        for i, (group, wrong, case) in enumerate(KINDS[kind](place, count, random.Random(seed)), start=1):
            groups[group] += 1
            if wrong is not None:
                broken.append({"what": wrong, "case": case[:300]})
                print(f"{kind}: {wrong}: {case[:300]!r}", file=sys.stderr)
            if i % _KEPT == 0:
                yield _counted(kind, seed, groups, broken, started)
    yield _counted(kind, seed, groups, broken, started)


def _counted(kind: str, seed: int, groups: Counter[str], broken: list[Any], started: float) -> dict[str, Any]:
    return {
        "kind": kind, "seed": seed, "inputs": sum(groups.values()), "groups": dict(sorted(groups.items())), "broken": broken,
        "processor_s": round(time.process_time() - started), "version": __version__, "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip


def keep(run: Mapping[str, Any]) -> None:
    """A run in the file of results, in the place of one of the same kind and seed."""
    with RESULTS.with_suffix(".lock").open("w") as lock:  # runs side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        runs = [r for r in runs if (r["kind"], r["seed"]) != (run["kind"], run["seed"])]
        write_text(RESULTS, json.dumps(sorted([*runs, run], key=lambda r: (r["kind"], r["seed"])), indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz")
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], default=[])
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    broken = 0
    for kind in asked.kinds or KINDS:
        for run in tried(kind, asked.count or _LINES[kind], asked.seed):
            keep(run)
        broken += len(run["broken"])
        print(f"{kind}: {run['inputs']} inputs, {run['processor_s']} s, {len(run['broken'])} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
