"""`simulate serving` from the outside: the surface against its operators, what users see, traces, goals, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import waferline as wl
from waferline.cli import run
from waferline.machines.hardware import load_hardware
from waferline.predict.engine import get_engine
from waferline.predict.serving import serving_case
from waferline.predict.step import StepModel
from waferline.simulate.serving.state import Steps
from waferline.simulate.serving.step_time import step_seconds
from waferline.workloads.load import load_model
from waferline.workloads.scenario import Parallel

LINE = ["simulate", "serving", "llama-3-8b", "--on", "h100", "--precision", "fp16"]


def _model(model: str, machine: str, engine: str, tp: int = 1) -> StepModel:
    case = serving_case(load_model(model), load_hardware(machine), get_engine(engine), None, "static", False)
    return StepModel.of(case, "bf16", Parallel.of(tp=tp))


@pytest.mark.parametrize(
    ("model", "machine", "engine", "tp"),
    [
        ("llama-3-8b", "h100", "sglang", 1),
        ("qwen3-30b-a3b", "h100", "sglang", 2),
        ("deepseek-v2-lite", "a100", "sglang", 1),
        ("gemma-3-4b", "l40s", "sglang", 1),
    ],
)
def test_the_tables_are_the_operators(model: str, machine: str, engine: str, tp: int) -> None:
    step = _model(model, machine, engine, tp)
    surface = step.surface(512, 8704, 32768)
    tables = {name: getattr(surface, name) for name in Steps._fields if name != "host_sequences"}
    steps = Steps(**tables, host_sequences=256.0)
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
    assert "KV cache used" in picture.read_text()
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
        (["--rate", "8/s", "--plot", "run.png"], "html"),
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
