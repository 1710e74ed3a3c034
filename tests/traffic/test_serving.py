"""`simulate serving` from the outside: the surface against its operators, what users see, traces, goals, mistakes."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import waferline as wl
from waferline.cli import run
from waferline.errors import InvalidInputError, WaferlineError
from waferline.machines.hardware import load_hardware
from waferline.predict.engine import get_engine
from waferline.predict.serving_case import serving_case
from waferline.predict.step import StepModel
from waferline.simulate.serving.step_time import step_seconds
from waferline.traffic.serve import READS
from waferline.workloads.load import load_model
from waferline.workloads.scenario import Parallel

LINE = ["simulate", "serving", "llama-3-8b", "--on", "h100", "--precision", "fp16"]


def _model(model: str, machine: str, engine: str, tp: int = 1, graphed: int = 0) -> StepModel:
    case = serving_case(load_model(model), load_hardware(machine), get_engine(engine), None, "static", False)
    return StepModel.of(case, "bf16", Parallel.of(tp=tp), graphed)


@pytest.mark.parametrize(
    ("model", "machine", "engine", "tp", "graphed"),
    [
        ("llama-3-8b", "h100", "sglang", 1, 0),
        ("llama-3-8b", "h100", "vllm", 1, 512),
        ("qwen3-30b-a3b", "h100", "sglang", 2, 0),
        ("deepseek-v2-lite", "a100", "sglang", 1, 0),
        ("gemma-3-4b", "l40s", "sglang", 1, 0),
    ],
)
def test_the_tables_are_the_operators(model: str, machine: str, engine: str, tp: int, graphed: int) -> None:
    step = _model(model, machine, engine, tp, graphed)
    steps = step.tables(512, 8704, 32768)
    random = np.random.default_rng(0)
    errors = []
    for _ in range(300):
        decodes, context = int(random.integers(0, 500)), float(random.integers(16, 30_000))
        tokens = int(random.choice([0, *random.integers(1, 8192, 3)])) if decodes else int(random.integers(1, 8192))
        cached = float(random.choice([0, random.integers(0, 20_000)]))
        direct = float(step.step_s(float(decodes), context, float(tokens), cached))
        pairs = tokens * (cached + 0.5 * (tokens + 1.0))
        errors.append(step_seconds(steps, decodes, decodes * context, tokens, pairs) / direct - 1.0)
    assert np.median(np.abs(errors)) < 0.003 and np.quantile(np.abs(errors), 0.95) < 0.01


def test_a_step_of_one_kind_is_what_predict_says() -> None:
    step, model = _model("llama-3-8b", "h100", "sglang"), wl.ServingModel()
    decode = model.solve("llama-3-8b", "h100", 999, 64, "bf16", output_len=1, engine="sglang")
    prefill = model.solve("llama-3-8b", "h100", 4096, 1, "bf16", engine="sglang")
    assert float(step.step_s(64.0, 1000.0, 0.0, 0.0)) == pytest.approx(float(decode["itl_s"]), rel=1e-3)
    assert float(step.step_s(0.0, 1.0, 4096.0, 0.0)) == pytest.approx(float(prefill["ttft_s"]), rel=1e-3)
    both = float(step.step_s(64.0, 1000.0, 512.0, 0.0))
    alone = float(step.step_s(0.0, 1.0, 512.0, 0.0))
    assert alone < both < alone + float(decode["itl_s"])  # weights are read once


def test_an_older_engine_launches_what_no_graph_holds_by_its_host() -> None:
    """Of ML.ENERGY's runs of vLLM 0.11.1 with 8 to 16 sequences: 9.1 to 10 ms a step, and 50 to 52 ms with a short prompt."""
    case = serving_case(
        load_model("nvidia-nemotron-nano-9b-v2"), load_hardware("h100"), get_engine("vllm"), None, "static", False
    )
    older, newest = (StepModel.of(case, "bf16", Parallel.of(), 512, ahead=True, version=v) for v in ("0.11.1", ""))
    alone, short, long = (float(older.step_s(12.0, 500.0, tokens, 0.0)) for tokens in (0.0, 50.0, 600.0))
    assert alone == pytest.approx(9.5e-3, rel=0.1) and short == pytest.approx(51e-3, rel=0.2) and long > short
    assert float(newest.step_s(12.0, 500.0, 50.0, 0.0)) < 0.5 * short  # open loads of 0.15.1 show none of it
    steps = older.tables(64, 8192, 4096)
    assert step_seconds(steps, 12, 12 * 500.0, 50, 50 * 25.5) == pytest.approx(short, rel=0.01)
    assert step_seconds(steps, 12, 12 * 500.0, 600, 600 * 300.5) == pytest.approx(long, rel=0.01)


def test_ranks_wait_for_one_another_in_every_collective() -> None:
    case = serving_case(load_model("llama-3.1-70b"), load_hardware("h100"), get_engine("vllm"), None, "static", False)
    older, newest = (StepModel.of(case, "bf16", Parallel.of(tp=4), ahead=True, version=v) for v in ("0.11.1", "0.15.1"))
    waits = (
        older.constants.collective_s - newest.constants.collective_s,
        older.runner.engine.step_s - newest.runner.engine.step_s,
    )
    assert waits[0] > 0.0
    gap = float(older.rows_s(8.0, 8.0, decode=True)) - float(newest.rows_s(8.0, 8.0, decode=True))
    assert gap == pytest.approx(2 * 80 * waits[0] + waits[1], rel=1e-6)  # two in each of 80 layers


def test_what_users_see(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / "r.parquet", tmp_path / "run.html"
    more = [
        "--rate",
        "8/s",
        "--prompt",
        "lognormal:1024,cv=1",
        "--requests",
        "2000",
        "--slo",
        "ttft=500ms,p99-tpot=30ms",
    ]
    assert run([*LINE, *more, "--out", str(out), "--plot", str(picture), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (
        data["how"] == "simulated"
        and data["verdict"] == "stable"
        and data["slo_met"] == {"ttft": True, "p99-tpot": True}
    )
    assert data["ttft_p50_s"] <= data["ttft_mean_s"] <= data["ttft_p99_s"]
    assert data["e2e_mean_s"] > data["ttft_mean_s"] + 200 * data["tpot_mean_s"]
    rows = pq.read_table(out)
    assert rows.num_rows == 2000 and rows.schema.field("ttft_s").metadata == {b"unit": b"second"}
    assert np.mean(rows["ttft_s"].to_numpy()) == pytest.approx(data["ttft_mean_s"])
    assert "KV cache that requests hold" in picture.read_text()
    assert run([*LINE, *more]) == 0
    page = capsys.readouterr().out
    assert "What users see" in page and "verdict: stable" in page and "SLO ttft: met" in page
    assert max(map(len, page.splitlines())) <= 80


def test_too_much_is_called_overloaded_and_a_missed_goal_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*LINE, "--rate", "500/s", "--requests", "3000", "--slo", "ttft=200ms", "--json"]) == 3
    data = json.loads(capsys.readouterr().out)
    assert data["verdict"] == "overloaded" and data["slo_met"] == {"ttft": False} and data["goodput_share"] < 0.9


@pytest.mark.parametrize("engine", ["vllm", "vllm-v0", "sglang", "tensorrt-llm"])
def test_more_users_never_see_less_and_more_devices_serve_more(engine: str) -> None:
    asked = wl.Scenario(model="llama-3-8b", machine="h100", precision="fp16", engine=engine)
    seen = []
    for rate in (1.0, 8.0, 25.0):
        seen.append(wl.simulate_serving(asked, wl.Traffic(requests=1500, rate_per_s=rate)).values["e2e_mean_s"])
    assert seen == sorted(seen)
    two = wl.simulate_serving(
        wl.Scenario(model="llama-3-8b", machine="h100", precision="fp16", engine=engine, dp=2),
        wl.Traffic(requests=1500, rate_per_s=25.0),
    )
    assert two.values["e2e_mean_s"] < seen[-1] and two.values["devices"] == 2


def test_a_trace_is_served_as_it_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    azure = tmp_path / "azure.csv"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.99,396,109\n"
    )
    mooncake = tmp_path / "mooncake.jsonl"
    lines = [
        {"timestamp": 2000 * i, "input_length": 2048, "output_length": 8, "hash_ids": [1, 2, 3, 3 + i]} for i in (1, 2)
    ]
    mooncake.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "r.parquet"
    assert run([*LINE, "--trace", str(azure), "--out", str(out)]) == 0
    rows = pq.read_table(out).to_pylist()
    assert [r["arrival_s"] for r in rows] == pytest.approx([0.0, 4.31]) and rows[1]["output_tokens"] == 109
    assert run([*LINE, "--trace", str(mooncake), "--out", str(out)]) == 0
    rows = pq.read_table(out).to_pylist()
    assert rows[1]["arrival_s"] == pytest.approx(2.0)
    assert rows[1]["ttft_s"] < 0.7 * rows[0]["ttft_s"]  # three of its four blocks are cached
    capsys.readouterr()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--rate", "0/s"], "rate"),
        (["--rate", "fast"], "8/s"),
        (["--rate", "8/s", "--prompt", "lognormal:0"], "lognormal:0"),
        (["--rate", "8/s", "--prompt", "lognromal:10"], "lognormal"),
        (["--rate", "8/s", "--output", "uniform:5"], "high"),
        (["--rate", "8/s", "--clients", "4"], "read no rate"),
        (["--clients", "0"], "clients"),
        (["--requests", "0"], "requests"),
        (["--arrival", "gamma"], "rate"),
        (["--rate", "8/s", "--arrival", "poison"], "poisson"),
        (["--rate", "8/s", "--slo", "ttft"], "ttft=500ms"),
        (["--rate", "8/s", "--slo", "ttfx=1s"], "ttft"),
        (["--rate", "8/s", "--slo", "ttft=1kg"], "second"),
        (["--rate", "8/s", "--engine", "openvino"], "scheduler"),
        (["--rate", "8/s", "--prompt", "900000"], "does not fit"),
        (["--rate", "8/s", "--tp", "3"], "heads"),
        (["--trace", "missing.csv"], "missing.csv"),
        (["--trace", "empty.csv"], "empty.csv"),
        (["--trace", "late.csv"], "row 2"),
        (["--trace", "words.csv"], "row 1"),
        (["--trace", "words.csv", "--rate", "3/s"], "rate"),
        (["--rate", "8/s", "--plot", "run.gif"], "html"),
        (["--rate", "8/s", "--router", "prefxi"], "prefix"),
        (["--rate", "8/s", "--fail", "0-60s"], "failure"),
        (["--rate", "8/s", "--fail", "3@60s"], "replica 3"),
        (["--rate", "8/s", "--fail", "0@1s"], "last replica"),
        (["--rate", "8/s", "--autoscale", "8..1"], "1..8"),
        (["--rate", "8/s", "--autoscale", "1..8,stat=3s"], "start"),
        (["--rate", "8/s", "--kv-link", "50GB/s"], "prefill"),
        (["--rate", "8/s", "--policy", "max_utilization"], "one scheduler"),
        (["--rate", "8/s", "--engine", "sglang", "--engine-version", "0.5"], "engine_version"),
        (["--rate", "8/s", "--tenant", "chat;shore=1"], "share="),
        (["--rate", "8/s", "--turns", "many:3"], "turns"),
        (["--clients", "8", "--think", "uniform:1"], "high"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    header = "arrival_s,prompt_tokens,output_tokens\n"
    Path("empty.csv").write_text(header)
    Path("late.csv").write_text(f"{header}5,10,10\n4,10,10\n")
    Path("words.csv").write_text(f"{header}now,10,10\n")
    assert run([*LINE, *more]) in (2, 3)
    error = capsys.readouterr().err.strip().splitlines()
    assert words in error[-1] and len([line for line in error if "simulating" not in line]) == 1


@pytest.mark.parametrize(
    "field", [f.name for f in fields(wl.Scenario) if f.name not in ("model", "machine", "intervals", "only")]
)
def test_every_field_of_a_scenario_is_read_or_refused(field: str) -> None:
    """Nonsense in any field is an error: nothing is dropped in silence."""
    with pytest.raises(WaferlineError) as caught:
        wl.simulate_serving(
            wl.Scenario(**{"model": "llama-3-8b", "machine": "h100", field: "nonsense"}), wl.Traffic(requests=5)
        )
    said = str(caught.value)
    if said.startswith(f"{field} must be"):  # its kind alone is wrong
        return
    if field not in ("assume", "host"):  # which this model, being known and all on the device, does not read either
        assert ("would not be read" in said) == (field not in READS)


def test_what_is_read_counts() -> None:
    traffic = wl.Traffic(requests=400)
    usual = wl.simulate_serving(wl.Scenario(model="llama-3-8b", machine="h100"), traffic).values
    less = wl.simulate_serving(wl.Scenario(model="llama-3-8b", machine="h100", memory_share=0.25), traffic).values
    assert less["running_mean"] < usual["running_mean"]
    with pytest.raises(InvalidInputError, match="output would not be read"):
        wl.simulate_serving(wl.Scenario(model="llama-3-8b", machine="h100", output=2), traffic)


def test_stages_of_a_pipeline_hold_more_and_work_at_once() -> None:
    traffic = wl.Traffic(requests=400)
    one = wl.simulate_serving(wl.Scenario(model="llama-3-8b", machine="h100"), traffic).values
    two = wl.simulate_serving(wl.Scenario(model="llama-3-8b", machine="h100", pp=2), traffic).values
    assert two["devices"] == 2 and two["duration_s"] < 0.7 * one["duration_s"]
    layers = wl.Scenario(model="llama-3-8b", machine="h100", engine="llama.cpp", devices=2)
    alone = wl.Scenario(model="llama-3-8b", machine="h100", engine="llama.cpp")
    seen = [wl.simulate_serving(a, traffic).values["duration_s"] for a in (layers, alone)]
    assert seen[0] == pytest.approx(seen[1], rel=0.01)  # layers of one step after another


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests": "5"}, {"requests": 2.5}, {"requests": None}, {"rate_per_s": [1, 2]}, {"rate_per_s": float("nan")},
        {"seed": 1.5}, {"seed": True}, {"shared": None}, {"clients": "two"}, {"cv": {}}, {"prompt": None}, {"output": []},
        {"arrival": 3, "rate_per_s": 1.0}, {"trace": 5}, {"trace": {"arrival_s": [0.0]}},
        {"trace": {"arrival_s": [0.0], "prompt_tokens": [-5], "output_tokens": [3]}},
        {"trace": {"arrival_s": [0.0, 1.0], "prompt_tokens": [5], "output_tokens": [3]}},
        {"trace": {"arrival_s": ["x"], "prompt_tokens": [5], "output_tokens": [3]}},
    ],
)  # fmt: skip
def test_traffic_of_wrong_types_is_a_typed_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(WaferlineError):
        wl.simulate_serving(wl.Scenario(model="llama-3-8b", machine="h100"), wl.Traffic(**wrong))


@pytest.mark.parametrize(
    "wrong", [{"max_num_seqs": "x"}, {"max_num_seqs": 0}, {"max_num_batched_tokens": [1, 2]}, {"slo": "x"}]
)
def test_options_of_wrong_types_are_typed_errors(wrong: dict[str, Any]) -> None:
    with pytest.raises(WaferlineError):
        wl.simulate_serving(
            wl.Scenario(model="llama-3-8b", machine="h100"), wl.Traffic(requests=5), wl.ServerOptions(**wrong)
        )


@pytest.mark.parametrize("output", ["128", "lognormal:128,cv=1"])
def test_capacity_is_what_an_overloaded_server_serves(output):
    """Requests of one length end together where they begin together: that is no rate."""
    scenario = wl.Scenario(model="qwen3-0.6b", machine="l40s")
    asked = {"prompt": "512", "output": output}
    told = wl.simulate_serving(scenario, wl.Traffic(rate_per_s=1.0, requests=50, **asked)).values[
        "capacity_request_per_s"
    ]
    flooded = wl.simulate_serving(scenario, wl.Traffic(rate_per_s=3 * told, requests=12_000, **asked))
    assert flooded.values["request_per_s"] == pytest.approx(told, rel=0.1)
    assert flooded.verdict == "overloaded"


def test_answers_that_are_cut_are_as_long_as_a_benchmark_found_them() -> None:
    """AccelMark's offline runs of 512 tokens at most have means of 341 to 370."""
    sent = wl.Traffic(requests=4000, prompt="normal:100,cv=0.1,most=100", output="lognormal:520,cv=1,most=512").sent()
    assert sent.output.max() == 512 and 341 <= sent.output.mean() <= 370
    assert sent.prompt.max() == 100
    with pytest.raises(InvalidInputError, match="most=0"):
        wl.Traffic(prompt="lognormal:100,most=0").sent()
