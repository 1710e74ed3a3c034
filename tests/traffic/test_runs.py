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


ARENA = {  # ML.ENERGY Benchmark v3, vLLM 0.11.1
    "id": "arena", "hardware": "nvidia-h100-sxm-80gb", "devices": "1", "model": "nvidia-nemotron-nano-9b-v2",
    "weight_format": "bf16", "tp": "1", "engine": "vllm", "engine_version": "0.11.1", "arrival": "steady state",
    "workload": "lm-arena-chat", "concurrency": "16", "max_num_seqs": "16", "max_num_batched_tokens": "8192",
    "running_mean": "15.99", "output_tokens": "503.6", "ttft_mean_s": "", "itl_p50_s": "0.01", "itl_p99_s": "0.0524",
    "options": "async-scheduling=True",
}  # fmt: skip


def test_a_slow_gap_is_a_step_that_reads_a_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by = _checked(tmp_path, capsys, ARENA)
    for metric in ("itl_p50_s", "itl_p99_s"):
        row = by["arena", metric]
        assert row["predicted"] == pytest.approx(row["value"], rel=0.2)
        assert any("lognormal:250,cv=4" in text for text in row["assumed"])


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
    assert "292-717" in by["odd", "tpot_mean_s"]["refused"]
    assert any("accepted" in text for text in by["spec", "tpot_mean_s"]["assumed"])
    assert run(["evidence", "check", str(file)]) == 0
    assert "by metric" in capsys.readouterr().out


def _checked(tmp_path: Path, capsys: pytest.CaptureFixture[str], *runs: dict[str, str]) -> dict[tuple[str, str], dict]:
    file = tmp_path / "runs.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(dict.fromkeys(k for r in (*runs, {"ttft_mean_s": ""}) for k in r)))
        writer.writeheader()
        writer.writerows(runs)
    assert run(["evidence", "check", str(file), "--json"]) == 0
    return {(r["id"], r["metric"]): r for r in json.loads(capsys.readouterr().out)["rows"]}


# Published: GPUStack performance lab, DeepSeek-R1 on eight H200 and Qwen3-8B on one H100.
R1 = {
    "id": "r1", "hardware": "nvidia-h200-sxm", "devices": "8", "model": "deepseek-r1", "weight_format": "fp8", "tp": "8",
    "engine": "sglang", "engine_version": "0.5.2", "arrival": "all at once", "requests": "1000", "workload": "sharegpt",
    "input_tokens": "219.171", "output_tokens": "200.813", "request_per_s": "5.28",
}  # fmt: skip
EAGLE = "sglang --speculative-algorithm EAGLE --speculative-num-steps 1 --speculative-num-draft-tokens 2"


def test_a_run_that_drafts_is_simulated_as_its_command_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = "Comparison of benchmark results before and after"  # whose command is the best one, not the run's own
    found = _checked(
        tmp_path,
        capsys,
        R1 | {"id": "drafts", "speculative": "yes", "options": EAGLE},
        R1 | {"id": "more", "speculative": "yes", "options": EAGLE, "max_num_seqs": "256"},
        R1 | {"id": "plain", "max_num_seqs": "48"},
        R1 | {"id": "other", "speculative": "yes", "options": f"{page}: {EAGLE}", "notes": "section: Quantization"},
        R1 | {"id": "odd", "speculative": "yes", "options": "--speculative-algorithm WISHES"},
    )
    rate = {name: found[name, "request_per_s"]["predicted"] for name, _ in found}
    assert rate["drafts"] > 1.1 * rate["plain"]  # a layer trained with the model drafts one token, and most are kept
    assert rate["more"] > 1.5 * rate["drafts"]  # SGLang runs 48 that draft unless it is told another number
    assert not any("accepted" in text for text in found["other", "request_per_s"]["assumed"])
    assert "wishes" in found["odd", "request_per_s"]["refused"]


def test_requests_that_were_never_there_together_did_not_come_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = R1 | {"id": "few", "peak_concurrency": "16", "ttft_mean_s": "0.2"}
    page = R1 | {"id": "page", "locator": "docs/qwen3-8b/h100-latency.md line 9", "ttft_mean_s": "0.2"}
    found = _checked(tmp_path, capsys, few, page, R1 | {"id": "all", "ttft_mean_s": "20"})
    ttft = {name: found[name, "ttft_mean_s"] for name in ("few", "page", "all")}
    assert any("closed loop of 16" in text for text in ttft["few"]["assumed"])
    assert any("closed loop of 4" in text for text in ttft["page"]["assumed"])
    assert ttft["page"]["predicted"] < ttft["few"]["predicted"] < 0.05 * ttft["all"]["predicted"]


def test_a_time_per_token_is_what_its_tool_calls_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """GuideLLM divides the whole time by all tokens; what its client did not see as tokens adds up to no latency."""
    stated = R1 | {"workload": "random", "ttft_mean_s": "20", "e2e_mean_s": "30", "itl_mean_s": "0.05"}
    found = _checked(
        tmp_path,
        capsys,
        stated | {"id": "whole", "tpot_mean_s": "0.149"},
        stated | {"id": "usual", "tpot_mean_s": "0.05"},
        stated | {"id": "lost", "tpot_mean_s": "0.001", "itl_mean_s": "0.001"},
    )
    says = {key: row["predicted"] for key, row in found.items()}
    # Lengths that vary have no whole mean: these are all alike, whatever the table calls them.
    alike = _checked(tmp_path, capsys, stated | {"id": "alike", "workload": "sharegpt", "output_tokens": "201"})
    fixed = _checked(tmp_path, capsys, stated | {"id": "alike", "output_tokens": "201"})
    assert alike["alike", "e2e_mean_s"]["predicted"] == fixed["alike", "e2e_mean_s"]["predicted"]
    assert says["whole", "tpot_mean_s"] == pytest.approx(says["whole", "e2e_mean_s"] / 201, rel=1e-3)
    spent = says["usual", "e2e_mean_s"] - says["usual", "ttft_mean_s"]
    assert says["usual", "tpot_mean_s"] == pytest.approx(spent / 200, rel=1e-2)
    assert says["whole", "itl_mean_s"] == pytest.approx(says["usual", "tpot_mean_s"], rel=1e-2)
    assert found["lost", "itl_mean_s"]["suspect"] and not found["usual", "itl_mean_s"]["suspect"]


def test_pools_of_a_run_are_replicas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = {
        "id": "one", "hardware": "nvidia-a10", "devices": "8", "tp": "4", "model": "qwen2.5-7b", "weight_format": "bf16",
        "engine": "sglang", "arrival": "request rate", "rate_per_s": "4", "requests": "200", "workload": "random",
        "input_tokens": "2048", "output_tokens": "512", "itl_p99_s": "0.1", "disaggregated": "1 prefill + 1 decode instance",
    }  # fmt: skip
    found = _checked(tmp_path, capsys, one, one | {"id": "two", "disaggregated": "no: 2 identical instances"})
    # Nobody's answer waits for another's prompt where prompts are read elsewhere.
    assert found["one", "itl_p99_s"]["predicted"] < 0.5 * found["two", "itl_p99_s"]["predicted"]
