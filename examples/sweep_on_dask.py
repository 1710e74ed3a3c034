"""A sweep on a Dask cluster: here a cluster of this machine; with a scheduler elsewhere only its address changes."""

import tempfile
from pathlib import Path

import pyarrow.parquet
from distributed import LocalCluster

from waferline.cli import run

STUDY = """
models: [llama-3-8b, qwen3-8b]
machines: [h100, l40s]
axes:
  precision: [bf16, fp8]
  batch: {start: 1, stop: 128}
  prompt: [512, 2048]
"""


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        study, out = Path(folder) / "study.yaml", Path(folder) / "points.parquet"
        study.write_text(STUDY, encoding="utf-8")
        assert run(["sweep", str(study), "--out", str(out), "--cluster", cluster.scheduler_address]) == 0
        points = pyarrow.parquet.read_table(out).to_pydict()
    speed, at = max((v, i) for i, v in enumerate(points["throughput_tokens_per_s"]) if points["feasible"][i])
    print(
        f"fastest in total: {points['model'][at]} on {points['machine'][at]}, batch {points['batch'][at]}: {speed:,.0f} tokens/s"
    )


if __name__ == "__main__":
    main()
