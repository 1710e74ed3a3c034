"""Tables fit 80 columns and no line ends in blanks, whatever is asked; an error is one line, however long its names."""

import pytest

from waferline.cli import run

LINES = (
    "", "catalog", "catalog models qwen3-8b", "catalog hardware m4-max", "catalog hardware", "techniques", "formats list",
    "study list",
    "predict llama-3-8b --on h100 --explain",
    "predict deepseek-v3 --on h200 --devices 8 --batch 1,64 --prompt 2k,32Ki",
    "predict qwen3-30b-a3b -p q4_k_m --on rtx2080 --offload experts --host epyc-9654",
    "predict llama-3-70b --on cs3 --strategy weight-streaming", "predict llama-3-8b --on wse2",
    "predict llama-3-8b --phase train --on h100 --devices 8 --batch 64", "predict flux.1-dev --on h100 --devices 4",
    "predict resnet-8 --on gap9 --phase train",
    "compare llama-3-70b --on h100,h200,mi300x,b200 --devices 8 --precision fp8",
    "simulate serving llama-3-8b --on h100 --rate 4/s --requests 50 --slo ttft=1s",
    "simulate mesh gemm 64x64x64 --grid 8x8",
    "plan llama-3-8b --rate 2/s --slo p99-ttft=2s,p99-tpot=60ms --on l40s,h100 --requests 200",
    "plan --on rtx-3060 --memory 12GB", "sensitivity llama-3-8b --on h100", "solve batch llama-3-8b --on h100 --for tpot<=20ms",
    "claim check gpt-oss-120b",
)  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_what_is_printed_fits_a_terminal(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(line.split()) in (0, 3)
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines
    assert all(text.startswith("waferline: ") and text.endswith(" s)") for text in printed.err.splitlines())  # progress
    wide = [text for text in lines if len(text) > 80 and "http" not in text]
    assert not wide
    assert not [text for text in lines if text != text.rstrip()]
