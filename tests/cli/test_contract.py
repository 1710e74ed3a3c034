"""The contract of every command, whatever is typed: a documented exit code, one line, JSON with --json, and no bug."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from waferline.cli import run

VALUES = (
    *(
        "",
        "0",
        "-1",
        "1",
        "²",
        "1.5",
        "1e9",
        "0x10",
        "nan",
        "inf",
        "-inf",
        "9" * 400,
        "2147483648",
        "9223372036854775807",
    ),
    *("a" * 300, "\x1b[31m", "[/foo]", "a\nb", "<script>", "$(id)", "../..", "/dev/null", ".", "–µ", "=1+1", "\udcff"),
    *(",,,", "w=fp8,w=int4", "true", "None", "1,2", "32k", "auto", "this", "--json", "{}", "h100", "llama-3-8b"),
)
PARALLEL = ("--tp", "--pp", "--ep", "--dp", "--devices")
SIZES = ("--batch", "--prompt", "--output", "--precision", "--kv")
LINES: tuple[tuple[str, tuple[str, ...]], ...] = (  # a line that works, and the options to spoil; "" adds an argument
    ("predict llama-3-8b --on h100", (*PARALLEL, *SIZES, "--engine", "--load", "--phase", "--profile", "--on")),
    ("predict resnet-50 --on a100", (*PARALLEL, *SIZES, "--phase", "--engine")),
    ("predict llama-3-8b --on h100 --phase train", (*PARALLEL, *SIZES, "--micro-batch", "--recompute")),
    ("predict llama-3-8b --on cs3", (*PARALLEL, *SIZES, "--strategy")),
    ("compare llama-3-8b --on h100,cs3", (*SIZES, "--devices", "--engine", "--phase", "--on")),
    (
        "simulate serving llama-3-8b --on h100 --rate 20/s --requests 50",
        (
            "--rate",
            "--prompt",
            "--output",
            "--requests",
            "--cv",
            "--arrival",
            "--slo",
            "--tp",
            "--trace",
            "--max-num-seqs",
        ),
    ),
    ("catalog hardware", ("--kind", "")),
    ("catalog models", ("",)),
    ("catalog formats", ("",)),
    ("evidence check", ("", "--by", "--worst")),
    ("claim check", ("",)),
    ("study run", ("",)),
    ("sweep study.yaml", ("--out", "")),
    ("frontier points.parquet --x itl_s --y ttft_s", ("--x", "--y", "")),
)


@pytest.mark.parametrize("seed", range(12))
def test_the_contract_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text("models: [gpt2]\nmachines: [l4]\naxes: {prompt: [128]}\n")
    draw = random.Random(seed)
    for line, options in LINES:
        option, value = draw.choice(options), draw.choice(VALUES)
        flag = draw.choice([[], ["--json"]])
        args = [*line.split(), *([option] if option else []), value, *flag]
        code = run(args)
        out, err = capsys.readouterr()
        assert code in (0, 2, 3), (args, err)
        assert "this is a bug" not in err, (args, err)
        assert len(err.splitlines()) in {0: (0,), 2: (1,), 3: (0, 1)}[code], (
            args,
            err,
        )  # 3: as an answer or as an error
        assert all(c.isprintable() or c == "\n" for c in out + err), args
        if flag:
            assert json.loads(out).keys() == {"error"} if code == 2 else json.loads(out), args
