"""A hundred million points by the command itself: rate, file, and the most memory that its process held.

`python -m benchmarks sweep`; writes `benchmarks/results/sweep.json`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

RESULTS = Path(__file__).parent / "results" / "sweep.json"
BOUND_BYTES = 1.0e9  # of memory, for any number of points
STUDY = """
models: [llama-3-8b]
machines: [h100]
axes:
  precision: [bf16, fp8]
  batch: {start: 1, stop: 500}
  prompt: {start: 1, stop: 10000}
  output: {start: 1, stop: 10}
fields: [itl_s]
assert: [itl_s<=10s]
"""
POINTS = 2 * 500 * 10_000 * 10


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        study, out = Path(folder, "study.yaml"), Path(folder, "points.parquet")
        study.write_text(STUDY, encoding="utf-8")
        start = time.perf_counter()
        command = [sys.executable, "-m", "waferline", "sweep", str(study), "--out", str(out), "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows, size = pq.ParquetFile(out).metadata.num_rows, out.stat().st_size
    peak = usage.ru_maxrss * 1024.0
    found = {
        "points": rows, "wall_s": round(time.perf_counter() - start, 1), "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_bytes": peak, "file_bytes": size,
    }  # fmt: skip
    print(", ".join(f"{k} {v:,.0f}" for k, v in found.items()))
    assert rows == POINTS, f"{rows:,} points instead of {POINTS:,}"
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if peak <= BOUND_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
