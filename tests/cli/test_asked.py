"""Every field of a question is an option of every command that asks it."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from typer.main import get_command

from waferline.cli import run
from waferline.cli.app import app
from waferline.cli.asked import QUESTION
from waferline.predict.scenario import Scenario

ONLY_PYTHON = {"intervals", "only"}  # for sweeps that rank: a table has room for them


def test_every_field_of_a_scenario_is_an_option() -> None:
    assert QUESTION.keys() | {"model", "machine"} | ONLY_PYTHON == {f.name for f in fields(Scenario)}


@pytest.mark.parametrize("verb", ["predict", "compare", "solve", "sensitivity"])
def test_every_command_that_asks_has_them_all(verb: str) -> None:
    command = get_command(app).commands[verb]  # type: ignore[attr-defined]
    assert QUESTION.keys() <= {parameter.name for parameter in command.params}


@pytest.mark.parametrize(
    ("alias", "line"),
    [("eval predict", "llama-3-8b --on h100 --batch 8 --json"), ("optimize plan", "llama-3-8b --on h100 --rate 1 --json"),
     ("serve simulate-serving", "llama-3-8b --on h100 --rate 1 --requests 20 --json")],
)  # fmt: skip
def test_words_of_another_package_ask_the_same(alias: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for words in alias.split():
        assert run([*words.split("-"), *line.split()]) == 0
        told.append(json.loads(capsys.readouterr().out).keys())
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "line",
    ["compare llama-3-8b --on h100,,b200", "compare llama-3-8b --on ,", "plan llama-3-8b --on h100, --rate 2",
     "predict llama-3-8b --on h100 --with eagle:tokens=3,,acceptance=0.5"],
)  # fmt: skip
def test_an_empty_name_among_several_is_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2
    assert "empty" in (said := capsys.readouterr().err) or "''" in said
