"""`waferline predict` and `compare` from the outside: output, exit codes, the JSON contract, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from waferline.cli import run


def cli(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = run(list(args))
    out, err = capsys.readouterr()
    return code, out, err


def as_json(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict]:
    code, out, _ = cli(capsys, *args, "--json")
    return code, json.loads(out)


TOP = ("fits", "ttft_s", "tpot_s", "output_tokens_per_s", "bottleneck", "speed_of_light", "operators", "sources")


def test_the_demo_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        "predict",
        "llama-3-8b",
        "--on",
        "h100",
        "--precision",
        "int4",
        "--batch",
        "1",
        "--prompt",
        "2048",
        "--output",
        "256",
    ]
    code, out, _ = cli(capsys, *line)
    assert code == 0
    for word in (
        "TTFT",
        "TPOT",
        "speed of light",
        "90 % interval",
        "MFU",
        "MBU",
        "weights",
        "KV cache",
        "not modelled",
    ):
        assert word in out
    code, data = as_json(capsys, *line)
    assert code == 0 and set(TOP) <= set(data)
    for phase in ("prefill", "decode"):
        assert {"fits", "bottleneck", "speed_of_light", "operators"} <= set(data[phase])
    assert data["tpot_s"] > data["speed_of_light"]["tpot_s"] > 0
    assert data["output_tokens_per_s"] < data["speed_of_light"]["output_tokens_per_s"]
    assert data["sources"] and all(s["url"] and s["date"] for s in data["sources"])
    decode = [row for row in data["operators"] if row["phase"] == "decode"]
    assert sum(row["time_s"] for row in decode) <= data["tpot_s"]


def test_what_does_not_fit_says_so_first_and_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = cli(capsys, "predict", "llama-3-70b", "--on", "h100", "--precision", "fp16")
    assert code == 3
    assert out.index("Does not fit") < out.index("TTFT")
    assert "--devices 2" in out and "--precision" in out
    code, data = as_json(capsys, "predict", "llama-3-70b", "--on", "h100", "--precision", "fp16")
    assert code == 3 and data["fits"] is False and data["would_fit"]


def test_explain_names_every_operator(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = cli(capsys, "predict", "llama-3-8b", "--on", "h100", "--precision", "fp16", "--explain")
    for name in ("attention.qkv", "attention.core", "ffn.down", "head", "share", "bound by"):
        assert name in out


@pytest.mark.parametrize(
    "line",
    [
        "predict resnet-50 --on a100 --batch 256 --phase train",
        "predict ds-cnn --on stm32h7",
        "predict deepseek-v3 --on h200 --precision fp8 --devices 8 --ep 8 --batch 64",
        "predict bert-base --on l4 --batch 8 --prompt 384",
        "predict whisper-large-v3 --on rtx-4090",
        "predict llama-3-8b --on h100 --phase train --batch 64 --devices 8 --precision bf16",
        "predict vit-base --on m2-max",
    ],
)
def test_other_kinds_of_model_and_phase(capsys: pytest.CaptureFixture[str], line: str) -> None:
    code, data = as_json(capsys, *line.split())
    assert code in (0, 3) and "fits" in data and data["operators"]
    assert data["speed_of_light"]


def test_compare_keeps_every_machine(capsys: pytest.CaptureFixture[str]) -> None:
    line = "compare llama-3-70b --on h100,h200,b200,mi300x,m2-ultra,cs3 --devices auto --precision fp8"
    code, out, _ = cli(capsys, *line.split())
    assert code == 0
    for machine in ("h100", "h200", "b200", "mi300x", "m2-ultra", "cerebras"):
        assert machine in out
    assert "no fp8 units" in out  # the M2 Ultra computes in 16 bits, and says so
    code, rows = as_json(capsys, *line.split())
    assert len(rows) == 6


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("predict llama-3-8c --on h100", ("llama-3-8c", "llama-3-8b")),
        ("predict llama-3-8b --on h10", ("h10", "h100")),
        ("predict llama-3-8b --on h100 --precision int5", ("int5", "int")),
        ("predict llama-3-8b --on a100 --precision fp8", ("fp8", "a100")),
        ("predict llama-3-8b --on h100 --batch 0", ("batch_size", "0")),
        ("predict llama-3-8b --on h100 --batch -4", ("batch_size", "-4")),
        ("predict llama-3-8b --on h100 --batch 1.5", ("1.5",)),
        ("predict llama-3-8b --on h100 --prompt nan", ("nan",)),
        ("predict llama-3-8b --on h100 --phase trian", ("trian", "train")),
        ("predict llama-3-8b --on h100 --devices many", ("many",)),
        ("predict llama-3-8b --on h100 --engine vlm", ("vlm", "vllm")),
        ("predict llama-3-8b --on h100 --bacth 3", ("--bacth",)),
        ("predict llama-3-8b --on l4 --devices 64", ("l4",)),
        ("predict llama-3-8b --on h100 --memory 64GB", ("64GB", "80GB")),
        ("predict llama-3-8b --on h100 --memory-share 1.5", ("memory_share", "1.5")),
        ("predict llama-3-8b --on h100 --context 1k", ("1000", "2304")),
        ("predict /nowhere/config.json --on h100", ("/nowhere/config.json",)),
        ("predict llama-3-8b", ("--on",)),
        ("compare llama-3-8b --on ,", ("--on",)),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], line: str, words: tuple[str, ...]
) -> None:
    code, out, err = cli(capsys, *line.split())
    assert code == 2, (out, err)
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err
    for word in words:
        assert word in err
    code, data = as_json(capsys, *line.split())
    assert code == 2 and data["error"]["message"] and data["error"]["exit_code"] == 2


def test_broken_files_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": ')
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff")
    (tmp_path / "mine.yaml").write_text("name: mine\nvendro: me\n")
    for model, machine in (("config.json", "h100"), ("model.gguf", "h100"), ("llama-3-8b", "mine.yaml")):
        model_arg = str(tmp_path / model) if (tmp_path / model).exists() else model
        machine_arg = str(tmp_path / machine) if (tmp_path / machine).exists() else machine
        code, _, err = cli(capsys, "predict", model_arg, "--on", machine_arg)
        assert code == 2 and len(err.strip().splitlines()) == 1
        assert "config.json" in err or "model.gguf" in err or "mine.yaml" in err


def test_how_many_fit_is_in_every_table_and_in_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = cli(capsys, "predict", "gpt-oss-20b", "--on", "m4", "--memory", "24GB", "--context", "8k")
    assert code == 0 and "largest batch" in out and "tokens in the cache, at most" in out and "whole context" in out
    code, out, _ = cli(capsys, "compare", "llama-3-8b", "--on", "h100,rtx-4090", "--memory-share", "0.8")
    assert code == 0 and "largest" in out and "KV" in out
    code, out, _ = cli(capsys, "predict", "llama-3-8b", "--on", "h100", "--json")
    memory = json.loads(out)["memory"]
    assert memory["usable_bytes"] == pytest.approx(0.9 * memory["capacity_bytes"]) and "whole context" in memory["rule"]
    assert memory["max_batch_size"] == memory["kv_capacity_tokens"] // 2304


def test_what_does_not_fit_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = cli(capsys, "predict", "gpt-oss-20b", "--on", "m4", "--memory", "16GB")
    assert code == 3 and "Does not fit" in out and "--memory 24GB" in out and "suppose that it fitted" in out
