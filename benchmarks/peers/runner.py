"""Questions put to one peer in its own interpreter; no peer is ever imported into this process."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import Peer

_LONGEST_S = 600.0
_IMPORTS = 3
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Replies:
    """What a peer answered, by row id; or why nothing could be asked."""

    answers: dict[str, dict[str, Any]]
    timing: dict[str, float]
    import_cpu_s: float | None = None
    version: str = ""
    failed: str = ""


def put(peer: Peer, questions: Sequence[dict[str, Any]]) -> Replies:
    """All questions to a peer in its own environment, with its version and the time of its import."""
    if not peer.python.exists():
        return _failed("not installed: run `make peers`")
    version = _run([str(peer.python), "-c", _VERSION.format(peer.name)])
    if version.returncode:
        return _failed(f"not installed: {_last_line(peer.install_log) or 'no such package in its environment'}")
    replies = replace(ask(peer.python, peer.script, questions), version=version.stdout.strip())
    if replies.failed:
        return replies
    return replace(replies, import_cpu_s=import_cpu_s([str(peer.python), "-c", f"import {peer.module}"]))


def ask(python: Path | str, script: Path, questions: Sequence[dict[str, Any]]) -> Replies:
    """All questions at once to one adaptor, then the timed repetition that it does by itself."""
    lines = "".join(json.dumps(q) + "\n" for q in questions)
    try:
        done = _run([str(python), str(script)], lines)
    except subprocess.TimeoutExpired:
        return _failed(f"no answer within {_LONGEST_S:.0f} s")
    if done.returncode:
        return _failed((done.stderr.strip().splitlines() or ["stopped without a word"])[-1])
    *replies, last = [json.loads(line) for line in done.stdout.splitlines()]
    return Replies({r["id"]: r for r in replies}, last["timing"])


_VERSION = "from importlib.metadata import version; print(version('{}'))"


def import_cpu_s(command: list[str]) -> float:
    """CPU seconds of a fresh interpreter that imports a module, its own start included: median of a few."""
    times = []
    for _ in range(_IMPORTS + 1):
        before = _children_cpu_s()
        _run(command).check_returncode()
        times.append(_children_cpu_s() - before)
    return statistics.median(times[1:])


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _run(command: list[str], lines: str = "") -> subprocess.CompletedProcess[str]:
    env = os.environ | _ONE_THREAD
    return subprocess.run(
        command, input=lines, capture_output=True, text=True, timeout=_LONGEST_S, env=env, check=False
    )


def _failed(why: str) -> Replies:
    return Replies({}, {}, failed=why)


def _last_line(log: Path) -> str:
    """The last error of an installation's log, else its last line."""
    lines = log.read_text(encoding="utf-8").strip().splitlines() if log.exists() else []
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")
