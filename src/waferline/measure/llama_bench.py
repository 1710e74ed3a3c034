"""What llama.cpp itself takes on this machine: its own `llama-bench`, asked for prompts and for tokens behind a context."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from waferline.errors import RefusedError

PROGRAM = "llama-bench"
PROMPTS = (32, 64, 128, 256, 512)  # tokens; up to one micro-batch
DEPTHS = (0, 256, 1024)  # tokens before those that are decoded
OUTPUT = 16
REPETITIONS = 3
_ON_PROCESSOR = {"CPU", "BLAS"}  # backends that compute with the cores
_MOST_S = 1800.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Mean rate of one test: a prompt of `prompt` tokens, or `output` tokens decoded one by one behind `depth` others."""

    prompt: int
    output: int
    depth: int
    tokens_per_s: float
    spread: float  # standard deviation over the mean
    threads: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def llama_bench(model: Path, progress: Callable[[str], None] = lambda what: None) -> tuple[tuple[Reading, ...], str]:
    """Rates of `model` (a GGUF file) on this machine's cores, and which build of llama.cpp they are of.

    Raises: RefusedError where there is no `llama-bench`, it fails, computes elsewhere than on the cores, or prints no result.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        hint = "install llama.cpp with its tools, and put its folder on PATH"
        raise RefusedError(f"no program {PROGRAM} is installed", hint=hint)
    counts = [["-p", _listed(PROMPTS), "-n", "0"], ["-p", "0", "-n", str(OUTPUT), "-d", _listed(DEPTHS)]]
    rows = list[Mapping[str, Any]]()
    for asked, what in zip(counts, ("prompts", "tokens"), strict=True):
        progress(f"llama.cpp, {what}")
        rows += _rows([program, "-m", str(model), "-r", str(REPETITIONS), "-o", "json", *asked])
    builds = {f"build {row.get('build_number')} ({row.get('build_commit')})" for row in rows}
    return tuple(_readings(rows)), ", ".join(sorted(builds))


def _listed(counts: tuple[int, ...]) -> str:
    return ",".join(map(str, counts))


def _rows(command: list[str]) -> list[Mapping[str, Any]]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MOST_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise RefusedError(f"{PROGRAM} did not run: {error}") from None
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["nothing"]
        raise RefusedError(f"{PROGRAM} failed with exit code {done.returncode}; it said last: {said[-1].strip()}")
    try:
        rows = json.loads(done.stdout)
    except ValueError:
        rows = None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise RefusedError(f"{PROGRAM} printed no results in JSON")
    return rows


def _readings(rows: list[Mapping[str, Any]]) -> Iterator[Reading]:
    for row in rows:
        where = {name.strip() for name in str(row.get("backends", "CPU")).split(",")}
        if not where <= _ON_PROCESSOR:
            hint = "build llama.cpp for the processor alone: a machine file of this kind holds a processor"
            raise RefusedError(f"{PROGRAM} computes with {', '.join(sorted(where))}, not with the cores", hint=hint)
        try:
            prompt, output, depth = (int(row.get(key, 0)) for key in ("n_prompt", "n_gen", "n_depth"))
            rate, off = float(row["avg_ts"]), float(row.get("stddev_ts", 0.0))
            threads = int(row["n_threads"])
        except (KeyError, TypeError, ValueError) as error:
            raise RefusedError(f"{PROGRAM} printed a result that is none: {error!r}") from None
        if not rate > 0:
            raise RefusedError(f"{PROGRAM} printed a rate of {rate:g} tokens a second")
        yield Reading(prompt, output, depth, rate, off / rate, threads)
