"""`plan`: what it answers holds when it is simulated on its own, and what nothing holds is refused with the nearest goal."""

import json

import pytest

import waferline as wl
from waferline.cli import run

LOAD = ["--rate", "4/s", "--prompt", "512", "--output", "64", "--on", "h100,l40s"]


def told(capsys, *arguments):
    code = run(["plan", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_plan_holds_when_its_server_is_simulated(capsys):
    code, data = told(capsys, "llama-3-8b", *LOAD, "--slo", "p99-ttft=500ms,p99-tpot=30ms", "--precision", "fp8,bf16")
    best = data["plan"]
    assert code == 0
    server = wl.Scenario(model="llama-3-8b", machine=best["machine"], precision=best["precision"], tp=best["tp"],
                         dp=best["replicas"], engine=best["engine"])  # fmt: skip
    traffic = wl.Traffic(requests=1000, rate_per_s=4, prompt=512, output=64, seed=1)
    seen = wl.simulate_serving(server, traffic, wl.ServerOptions(slo="p99-ttft=500ms,p99-tpot=30ms"))
    assert all(seen.values["slo_met"].values())
    assert best["usd_per_h"] <= data["runner_up"]["usd_per_h"] and 0.5 < best["probability"] <= 1.0
    assert f"--tensor-parallel-size {best['tp']}" in data["commands"]["vllm"] or best["tp"] == 1
    assert best["facility_j_per_request"] > best["simulated"]["energy_j_per_request"]


def test_a_budget_and_goals_that_nothing_holds_are_refused_with_the_nearest(capsys):
    code, data = told(capsys, "llama-3-8b", *LOAD, "--budget", "$0.01/h")
    assert code == 3 and data["plan"] is None and "budget of $" in data["nearest"]
    code, data = told(capsys, "llama-3-8b", *LOAD, "--slo", "p99-tpot=10us")
    assert code == 3 and "p99-tpot=" in data["nearest"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["llama-3-8b", "--on", "h100"], "--rate"),
        (["llama-3-8b", *LOAD, "--budget", "lots"], "budget"),
        (["llama-3-8b", *LOAD, "--region", "mars"], "unknown region"),
        (["--on", "h100", "--slo", "p99-ttft=1s"], "without a model"),
        (["resnet-50", *LOAD], "does not generate"),
    ],
)
def test_bad_questions_are_one_line(capsys, arguments, word):
    assert run(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1


def test_what_runs_on_a_machine_fits_it_and_more_memory_runs_more():
    small, large = (wl.what_runs("m4-max", memory=size) for size in ("48GB", "128GB"))
    assert 0 < len(small.rows) <= len(large.rows)
    assert all(r.memory_bytes < 48 * 2**30 and r.tokens_per_s >= small.least for r in small.rows)
    with pytest.raises(wl.InvalidInputError, match="48GB"):
        wl.what_runs("m4-max", memory="50GB")
    assert max(r.params for r in large.rows) > max(r.params for r in small.rows)


@pytest.mark.parametrize(
    ("machine", "fitting", "too_large"), [("cs3", "llama-3-8b", "llama-3-70b"), ("h100", "llama-3-8b", "llama-3-405b")]
)
def test_what_runs_on_one_machine_fits_one(machine, fitting, too_large):
    """A wafer's 44 GB hold 8 billion 16-bit weights, and not 70 billion; an accelerator that is no GPU has its own engine."""
    names = {row.model for row in wl.what_runs(machine).rows}
    assert fitting in names and too_large not in names
