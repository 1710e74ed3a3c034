"""A study's mechanism on a model and a machine of the user's own."""

from __future__ import annotations

import json

import pytest

from waferline.catalog.yaml_file import read_packaged
from waferline.cli import run

_TOLD = ("ttft_s", "tpot_s", "memory")


@pytest.mark.parametrize("study", sorted(read_packaged("techniques.yaml")["studies"]))
def test_every_mechanism_runs_on_a_model_of_ones_own(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--with", "kv-prediction:llama-3.2-1b"] if study == "kv-prediction" else []
    case = ["mixtral-8x7b", "--on", "h100"]
    if study in ("t-mac", "guaranteed-guess"):  # look-ups are a processor's, of narrow weights; so is translated code
        case = ["llama-3.2-1b", "--on", "raspberry-pi-5", "--precision", "q4_0"]
    command = ["study", "run", study, "--model", *case, *own, "--json"]
    assert run(command) == 0
    case = json.loads(capsys.readouterr().out)
    assert case["with_it"] != case["without_it"]
    told = [{key: case[way].get(key) for key in _TOLD} for way in ("with_it", "without_it")]
    assert told[0] != told[1]  # not in words alone


def test_offload_is_a_technique_by_name_too(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("--with offload:layers=20", "--offload layers=20"):
        assert run(["predict", "llama-3-8b", "--on", "rtx-4090", *line.split(), "--json"]) == 0
    first, second = capsys.readouterr().out.split("\n}\n{")
    assert first.strip(" {\n") == second.strip(" }\n")
    assert (
        run(["predict", "llama-3-8b", "--on", "rtx-4090", "--with", "offload:layers=20", "--offload", "layers=8"]) == 2
    )


@pytest.mark.parametrize(
    "line",
    ["prefix-caching --model llama-3-8b", "prefix-caching --on h100", "mlx --model llama-3-8b --on h100",
     "kv-prediction --model llama-3-8b --on h100", "nothing --model llama-3-8b --on h100"],
)  # fmt: skip
def test_what_cannot_be_is_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "run", *line.split()]) == 2
    assert "Traceback" not in capsys.readouterr().err
