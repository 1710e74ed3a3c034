"""`python -m benchmarks.kernels [--json] [--quick] [--save]`: the kernels beside llama.cpp and the memory they read.

Without llama-cpp-python installed the ratios read "peer not installed". `--save` writes the figures as data to
`benchmarks/results/kernels-<cpu>.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tests.kernels.random_gguf import ONE_BILLION, RandomModel, write_random_gguf

from benchmarks.kernels.cases import cases
from benchmarks.kernels.ggml import Ggml
from benchmarks.kernels.lesser import lesser_rows
from benchmarks.kernels.llama import llama_cpp_build, llama_cpp_missing
from benchmarks.kernels.model import LEAST_DECODE, LEAST_PREFILL, ModelRow, run_model
from benchmarks.kernels.operators import run_case
from benchmarks.kernels.study import look_up_rows, softmax_rows
from waferline.kernels.cpu.isa import current_isa
from waferline.kernels.cpu.threads import available_threads

RESULTS = Path(__file__).parents[1] / "results"


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, load, versions, date."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    fields = {key: re.search(rf"^{key}\s*:\s*(.+)$", text, re.M) for key in ("model name", "cpu family", "model")}
    return {
        "cpu": fields["model name"][1] if fields["model name"] else platform.processor(),
        "cpu_family_model": [f[1] for k in ("cpu family", "model") if (f := fields[k])],
        "cores": available_threads(),
        "isa": current_isa().name,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "llama_cpp_build": llama_cpp_build(),
        "versions": {name: _version(name) for name in ("numpy", "numba", "llvmlite", "gguf", "llama-cpp-python")},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def operator_table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(
        "operator", "batch", "threads", "GB/s", "% of read", "target", "GMAC/s", "ratio to llama.cpp", "target", "error",
        title=title,
    )  # fmt: skip
    for row in rows:
        c = row["case"]
        ratio = "peer not installed" if row["ratio"] is None else f"{row['ratio']:.2f} ({row['peer']})"
        table.add_row(
            f"{c['format']} {c['rows']}x{c['cols']}{' exact' if c['exact'] else ''}", str(c["batch"]), str(c["threads"]),
            f"{row['bytes_per_s'] / 1e9:.1f}", f"{row['share']:.0%}", f"{c['least_share']:.0%}" if c["least_share"] else "",
            f"{row['macs_per_s'] / 1e9:.1f}", ratio, f"{c['least_ratio']}" if c["least_ratio"] else "",
            "" if row["error"] is None else f"{row['error']:.1e}",
        )  # fmt: skip
    return table


def model_table(rows: list[ModelRow]) -> Table:
    table = Table(
        "threads", "prefill tok/s", "llama.cpp", "ratio", "target", "decode tok/s", "llama.cpp", "ratio", "target",
        title="a random Q4_K model of 1.1 B, prompt 512",
    )  # fmt: skip

    def beside(ours: float, peer: float | None) -> tuple[str, str]:
        return ("peer not installed", "") if peer is None else (f"{peer:.1f}", f"{ours / peer:.2f}")

    for r in rows:
        table.add_row(
            str(r.threads), f"{r.prefill_tokens_per_s:.1f}", *beside(r.prefill_tokens_per_s, r.peer_prefill_tokens_per_s),
            f"{LEAST_PREFILL}", f"{r.decode_tokens_per_s:.1f}", *beside(r.decode_tokens_per_s, r.peer_decode_tokens_per_s),
            f"{LEAST_DECODE}",
        )  # fmt: skip
    return table


def study_table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f"{v / 1e9:.2f} G" if isinstance(v, float) else str(v) for v in row.values()))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print data instead of tables")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and a small model")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/kernels-<cpu>.json")
    parser.add_argument("--threads", type=int, default=min(2, available_threads()), help="most threads to measure with")
    arguments = parser.parse_args()
    progress = Console(stderr=True)
    about = machine()
    ggml = None if llama_cpp_missing() else Ggml()
    operators = []
    for case in cases(arguments.threads):
        progress.print(f"{case.format} {case.rows}x{case.cols} batch {case.batch} threads {case.threads}", style="dim")
        operators.append(run_case(case, ggml, rounds=3 if arguments.quick else 9))
    progress.print("lesser instruction sets", style="dim")
    lesser = lesser_rows(rounds=3 if arguments.quick else 9)
    with tempfile.TemporaryDirectory() as folder:
        progress.print("whole model", style="dim")
        path = write_random_gguf(
            Path(folder) / "model.gguf", RandomModel(context=1024) if arguments.quick else ONE_BILLION
        )
        prompt = 128 if arguments.quick else 512
        models = [run_model(path, t, prompt=prompt) for t in range(1, arguments.threads + 1)]
    look_ups, softmaxes = look_up_rows(), softmax_rows()
    about["load_average_after"] = list(os.getloadavg()) if hasattr(os, "getloadavg") else None
    data = {
        "machine": about,
        "operators": [row.to_json() for row in operators],
        "lesser": lesser,
        "models": [asdict(row) for row in models],
        "look_up": look_ups,
        "softmax": softmaxes,
    }
    if arguments.save:
        name = re.sub(r"[^a-z0-9]+", "-", about["cpu"].lower()).strip("-") + "-" + about["isa"]
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"kernels-{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    if arguments.json:
        print(json.dumps(data, indent=1))
        return
    console = Console()
    console.print(about)
    console.print(
        operator_table("matrix products (1 thread: CPU time; more: wall)", [row.to_json() for row in operators])
    )
    for isa, rows in lesser.items():
        console.print(operator_table(f"the same with {isa} only", rows))
    console.print(model_table(models))
    console.print(study_table("table look-up and unpacking, weights/s", look_ups))
    console.print(study_table("softmax, elements/s", softmaxes))


if __name__ == "__main__":
    main()
