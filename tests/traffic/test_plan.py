"""`plan`: what it answers holds when it is simulated on its own, and what nothing holds is refused with the nearest goal."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import waferline as wl
from waferline.cli import run
from waferline.machines.hardware import load_hardware
from waferline.predict.engine import get_engine
from waferline.traffic.planning.candidate import Asked, Candidate, Load, candidates
from waferline.traffic.planning.chance import below
from waferline.traffic.planning.commands import commands
from waferline.traffic.planning.trial import Trials, part_of
from waferline.traffic.slo import goals_of
from waferline.workloads.load import load_model

LOAD = ["--rate", "4/s", "--prompt", "512", "--output", "64", "--on", "h100,l40s"]
GOALS = "p99-ttft=500ms,p99-tpot=30ms"


def told(capsys, *arguments):
    code = run(["plan", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_plan_holds_when_its_server_is_simulated(capsys, tmp_path):
    picture = tmp_path / "plan.html"
    code, data = told(
        capsys,
        "llama-3-8b",
        *LOAD,
        "--slo",
        GOALS,
        "--precision",
        "fp8,bf16",
        "--kv",
        "fp8,bf16",
        "--plot",
        str(picture),
    )
    best = data["plan"]
    assert code == 0 and picture.stat().st_size > 1000
    server = wl.Scenario(model="llama-3-8b", machine=best["machine"], precision=best["precision"], kv=best["kv"], tp=best["tp"],
                         dp=best["replicas"], engine=best["engine"])  # fmt: skip
    traffic = wl.Traffic(requests=1000, rate_per_s=4, prompt=512, output=64, seed=1)
    seen = wl.simulate_serving(server, traffic, wl.ServerOptions(slo=GOALS, **best["options"]))
    assert all(seen.values["slo_met"].values())
    assert best["usd_per_h"] <= data["runner_up"]["usd_per_h"] and 0.5 <= best["probability"] <= 1.0
    assert f"--tensor-parallel-size {best['tp']}" in data["commands"]["vllm"] or best["tp"] == 1
    assert best["facility_j_per_request"] > best["simulated"]["energy_j_per_request"]
    rooms = {c["kind"]: c["value"] for c in data["would_change"]}
    assert rooms["slack"] > 0.0 and rooms["rate"] >= 4.0


@pytest.mark.parametrize("start", [1, 200])
def test_replicas_are_found_however_far_off_the_closed_form_is(start):
    """From one replica as from far too many the same count, and one fewer misses the goals."""
    goals, load = goals_of("p99-ttft=60ms,p99-tpot=14ms"), Load(300.0, 1, 512, 64, 576)
    asked = Asked(load_model("llama-3-8b"), load, goals)
    trials = Trials(
        asked, wl.Traffic(rate_per_s=300, prompt=512, output=64), wl.ServerOptions(), 0.0, None, lambda text: None
    )
    found = trials.fewest(replace(candidates(asked, [load_hardware("h100")])[0][0].with_replicas(start), usd_per_h=1.0))
    assert found.holds and found.candidate.replicas > 3
    assert not trials.at(found.candidate.with_replicas(found.candidate.replicas - 1)).holds
    over = trials.fewest(found.candidate.with_replicas(1), wl.ServerOptions(max_num_seqs=1))
    assert not over.holds or over.candidate.replicas > found.candidate.replicas


def test_a_trace_and_clients_are_planned_for(capsys, tmp_path):
    trace = tmp_path / "trace.csv"
    random = np.random.default_rng(0)
    at = np.cumsum(random.exponential(0.2, 300))
    trace.write_text(
        "arrival_s,prompt_tokens,output_tokens\n"
        + "".join(
            f"{t:.3f},{p},{o}\n"
            for t, p, o in zip(at, random.integers(50, 900, 300), random.integers(5, 90, 300), strict=True)
        )
    )
    code, data = told(capsys, "llama-3-8b", "--trace", str(trace), "--on", "l40s", "--slo", "p99-ttft=2s")
    assert code == 0 and data["plan"]["replicas"] >= 1
    code, data = told(capsys, "llama-3-8b", "--clients", "32", "--think", "2", "--on", "l40s", "--slo", "p90-tpot=60ms",
                      "--prompt", "300", "--output", "50")  # fmt: skip
    assert code == 0 and data["plan"]["verdict"] == "all served"
    assert run(["plan", "llama-3-8b", "--trace", str(trace), "--rate", "3/s", "--on", "l40s"]) == 2


def test_a_budget_and_goals_that_nothing_holds_are_refused_with_the_nearest(capsys):
    code, data = told(capsys, "llama-3-8b", *LOAD, "--budget", "$0.01/h")
    assert code == 3 and data["plan"] is None and "budget of $" in data["nearest"]
    code, data = told(capsys, "llama-3-8b", *LOAD, "--slo", "p99-tpot=10us")
    assert code == 3 and "p99-tpot=" in data["nearest"]


def test_more_confidence_never_costs_less(capsys):
    costs = [
        told(capsys, "llama-3-8b", *LOAD, "--slo", "p99-tpot=25ms", "--confidence", share)[1]["plan"]["usd_per_h"]
        for share in ("20%", "0.7")
    ]
    assert costs == sorted(costs)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["llama-3-8b", "--on", "h100"], "--rate"),
        (["llama-3-8b", *LOAD, "--budget", "lots"], "budget"),
        (["llama-3-8b", *LOAD, "--budget", "$40/fortnight"], "budget"),
        (["llama-3-8b", *LOAD, "--budget", "-3"], "budget"),
        (["llama-3-8b", *LOAD, "--confidence", "110%"], "probability"),
        (["llama-3-8b", *LOAD, "--region", "mars"], "unknown region"),
        (["llama-3-8b", *LOAD, "--slo", "ttft=0s"], "above 0"),
        (["llama-3-8b", *LOAD, "--slo", "p101-ttft=1s"], "SLO"),
        (["llama-3-8b", *LOAD, "--precision", ","], "--precision"),
        (["llama-3-8b", *LOAD, "--router", "random"], "router"),
        (["llama-3-8b", *LOAD, "--turns", "2", "--distinct", "3"], "distinct"),
        (["llama-3-8b", "--rate", "4/s", "--on", "h1000"], "h100"),
        (["llama-3-8b", "--rate", "4/s", "--on", ","], "--on"),
        (["--on", "h100", "--slo", "p99-ttft=1s"], "without a model"),
        (["--on", "h100", "--rate", "1/s", "--router", "session"], "without a model"),
        (["resnet-50", *LOAD], "does not generate"),
    ],
)
def test_bad_questions_are_one_line(capsys, arguments, word):
    assert run(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1


def test_one_of_several_replicas_shows_what_all_do():
    """Every n-th of Poisson arrivals: quantiles of the fleet and of the one agree within their noise."""
    goal = wl.ServerOptions()
    fleet = wl.Traffic(requests=6000, rate_per_s=60, prompt=512, output=64)
    one = part_of(fleet, goal, 3)
    assert (
        one is not None and one.rate_per_s == 20 and part_of(fleet, wl.ServerOptions(router="least-loaded"), 3) is None
    )
    server = wl.Scenario(model="llama-3-8b", machine="h100", intervals=False)
    alone = wl.simulate_serving(server, one, goal).values
    whole = wl.simulate_serving(
        wl.Scenario(model="llama-3-8b", machine="h100", dp=3, intervals=False), fleet, goal
    ).values
    for name in ("ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "tpot_p99_s"):
        assert alone[name] == pytest.approx(whole[name], rel=0.1), name


def test_shares_of_errors_are_read_between_their_quantiles():
    levels, errors = [0.05, 0.25, 0.5, 0.75, 0.95], [-0.4, -0.1, 0.0, 0.2, 0.6]
    assert [below(q, errors, levels) for q in errors] == levels
    assert below(-5.0, errors, levels) == 0.0 and below(5.0, errors, levels) == 1.0


# As the engines' own pages name them, looked up on 2026-11-29: vllm/engine/arg_utils.py, SGLang's docs/advanced_features/
# server_arguments.md (ep-size: its table of experts), tensorrt_llm/commands/serve.py, llama.cpp's tools/server/README.md.
DOCUMENTED = {
    "vllm": "tensor-parallel-size pipeline-parallel-size data-parallel-size enable-expert-parallel max-model-len max-num-seqs "
    "max-num-batched-tokens kv-cache-dtype quantization no-enable-prefix-caching kv-transfer-config",
    "sglang": "model-path tp-size pp-size dp-size enable-dp-attention ep-size context-length max-running-requests "
    "chunked-prefill-size kv-cache-dtype quantization disable-radix-cache disaggregation-mode",
    "tensorrt-llm": "tp_size pp_size ep_size max_seq_len max_batch_size max_num_tokens config",
    "llama.cpp": "model n-gpu-layers parallel ctx-size batch-size cache-type-k cache-type-v no-cache-prompt",
}


@pytest.mark.parametrize("apart", [0, 2])
@pytest.mark.parametrize("kv", [None, "fp8", "q8_0"])
def test_every_flag_of_a_command_line_is_in_its_engine_s_page(apart, kv):
    options = wl.ServerOptions(
        max_num_seqs=64, max_num_batched_tokens=4096, prefix_caching=False, prefill_replicas=apart
    )
    seen = {name: set() for name in DOCUMENTED}
    for tp, pp, ep, dp in ((1, 1, 1, 1), (2, 2, 2, 1), (1, 1, 8, 8)):
        plan = Candidate(load_hardware("h100"), "fp8", kv, "vllm", tp, pp, ep, dp, 5, 8.0, 1.0, 1.0, {})
        for name, line in commands(plan, options, 4096).items():
            seen[name.split(",")[0]] |= set(re.findall(r"(?<= --)[a-z][a-z_-]*", line))
    for name, flags in seen.items():
        assert flags <= set(DOCUMENTED[name].split()), name
    assert {get_engine(name).name for name in seen} == set(seen)
    assert ("kv-cache-dtype" in seen["vllm"]) == (kv == "fp8")


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


def test_a_card_of_a_desk_runs_files_that_a_desk_has(capsys):
    """Cards without a server run llama.cpp's formats, though they reach others over PCIe; nobody has weights of table rows."""
    assert run(["plan", "--on", "rtx-3060", "--memory", "12GB"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    formats = {line.split()[1] for line in lines if line.startswith(("llama-3-8b ", "qwen2.5-14b ", "phi-4 "))}
    assert formats == {"q4_k_m", "q8_0"} or formats == {"q4_k_m"}
    assert not any(line.startswith(("gpt-hidden", "maxtext")) for line in lines)
