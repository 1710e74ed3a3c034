"""A study's mechanism on a model and a machine of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from docs.pages.studies import SYSTEMS

from waferline.cli import run
from waferline.evidence.studies.registry import load_study, study_names

OWN = {name: load_study(name).own for name in study_names()}
LEARNER = "{name: svm, title: A linear SVM, learner: {kind: linear-svm, features: 21, classes: 10}}"
_TOLD = ("ttft_s", "tpot_s", "itl_s", "latency_s", "memory")


def test_every_study_has_a_command_for_ones_own_model_or_says_why_not() -> None:
    assert all(("command" in own) != ("why" in own) for own in OWN.values())
    assert sum("command" in own for own in OWN.values()) >= 19


@pytest.mark.parametrize("study", [name for name, own in OWN.items() if "command" in own])
def test_every_mechanism_runs_on_a_model_of_ones_own(
    study: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("svm.yaml").write_text(LEARNER)
    command = OWN[study]["command"].split()
    assert command[:3] == ["study", "run", study]
    assert run([*command, "--json"]) == 0
    case = json.loads(capsys.readouterr().out)
    if "without_it" in case:
        told = [{key: case[way].get(key) for key in _TOLD} for way in ("with_it", "without_it")]
        assert told[0] != told[1]  # not in words alone
    assert run(command) == 0
    assert study in capsys.readouterr().out


@pytest.mark.parametrize(("system", "command"), SYSTEMS)
def test_systems_beside_the_studies_have_commands_that_run(
    system: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("study", [name for name, own in OWN.items() if "why" in own])
def test_what_is_no_change_of_a_model_says_what_to_ask_instead(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "run", study, "--model", "llama-3-8b", "--on", "h100"]) == 2
    assert OWN[study]["why"] in capsys.readouterr().err


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
    ["prefix-caching --model llama-3-8b", "prefix-caching --on h100", "bit-weight --model llama-3-8b --on h100",
     "mlx --model llama-3.2-1b --on apple-m2-max --engine llama.cpp", "edge-moe --model m3vit --on zcu102 --tp 2",
     "kv-prediction --model llama-3-8b --on h100", "nothing --model llama-3-8b --on h100"],
)  # fmt: skip
def test_what_cannot_be_is_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "run", *line.split()]) == 2
    assert "Traceback" not in capsys.readouterr().err
