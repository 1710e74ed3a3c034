"""`evidence check` of serving runs: every latency that a run states is simulated or refused, by the row."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from waferline.cli import run

# Published: inference-sim's validation on vLLM 0.15.1 (results_iter36/error_records.csv), GPUStack performance lab.
RUNS = [
    {
        "id": "blis-18", "hardware": "nvidia-h100-sxm-80gb", "devices": "1", "model": "llama-3.1-8b", "weight_format": "fp16",
        "tp": "1", "engine": "vllm", "max_num_seqs": "128", "max_num_batched_tokens": "2048", "arrival": "request rate",
        "rate_per_s": "5", "requests": "3000", "input_tokens": "566", "output_tokens": "236.638",
        "shared_prefix_tokens": "100", "ttft_mean_s": "0.0245197", "tpot_mean_s": "0.00759129", "e2e_mean_s": "1.81332",
    },
    {
        "id": "gpustack-1", "hardware": "nvidia-h200-sxm", "devices": "8", "model": "deepseek-r1", "weight_format": "bf16",
        "tp": "8", "engine": "vllm", "engine_version": "0.11.0", "arrival": "all at once", "requests": "1000",
        "workload": "sharegpt", "input_tokens": "219.171", "output_tokens": "200.752", "ttft_mean_s": "17.7431",
        "itl_p50_s": "0.0003",
    },
    {"id": "spec", "hardware": "nvidia-h100-sxm-80gb", "model": "llama-3-8b", "weight_format": "fp16", "speculative": "EAGLE",
     "arrival": "closed loop", "concurrency": "4", "input_tokens": "100", "output_tokens": "100", "tpot_mean_s": "0.004"},
    {"id": "odd", "hardware": "nvidia-h100-sxm-80gb", "model": "llama-3-8b", "weight_format": "fp16", "tp": "292-717",
     "arrival": "closed loop", "concurrency": "4", "input_tokens": "100", "output_tokens": "100", "tpot_mean_s": "0.004"},
]  # fmt: skip


def test_each_latency_of_each_run_is_an_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "runs.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(dict.fromkeys(k for r in RUNS for k in r)))
        writer.writeheader()
        writer.writerows(RUNS)
    assert run(["evidence", "check", str(file), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    by = {(r["id"], r["metric"]): r for r in rows}
    assert len(rows) == 7
    steady = by["blis-18", "tpot_mean_s"]
    assert steady["predicted"] == pytest.approx(steady["value"], rel=0.15)  # a host counted twice is 0.3
    assert steady["low90"] < steady["predicted"] < steady["high90"]
    assert by["gpustack-1", "ttft_mean_s"]["low90"] < 17.7431 < by["gpustack-1", "ttft_mean_s"]["high90"]
    assert any("as shipped" in text for text in by["gpustack-1", "ttft_mean_s"]["assumed"])
    assert by["gpustack-1", "itl_p50_s"]["suspect"] == "tokens came in bundles"
    assert "speculative" in by["spec", "tpot_mean_s"]["refused"] and "292-717" in by["odd", "tpot_mean_s"]["refused"]
    assert run(["evidence", "check", str(file)]) == 0
    assert "by metric" in capsys.readouterr().out
