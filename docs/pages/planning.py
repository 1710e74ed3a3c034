"""The part of `docs/serving.md` about plans: how one is made, how fast, how well it chooses and how honest its probability is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs.pages.markdown import table
from waferline.text import percent

_FOLDER = Path(__file__).parents[2] / "benchmarks" / "results"


def _result(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def planning() -> str:
    """The section, from the benchmarks' files."""
    speed, quality, chance = _result("plan"), _result("plan_quality"), _result("plan_chance")
    rows = [[f"waferline, {r['model']}, 8 GPU kinds × 4 formats × all degrees ({r['candidates']} candidates, {r['simulations']} "
             f"simulations)", f"{r['cpu_s']:.1f} CPU s", "measured"] for r in speed["rows"]]  # fmt: skip
    rows += [[p["tool"], f"{p['least_s']:.0f} to {p['most_s']:.0f} s", "stated"] for p in speed["peers"]]
    two = chance["two_goals"]
    honest = [[percent(t["stated"]), percent(t["held"]), f"{t['goals']:,}"] for t in chance["probability"]]
    return f"""## What to deploy

```
waferline plan llama-3-70b --rate 20/s --prompt 2048 --output 256 --slo p99-ttft=2s,p99-tpot=60ms --on h100,h200,b200 -p fp8,int4
waferline plan deepseek-v3 --trace day.csv --slo p90-ttft=2s --on h200,b200 --kv fp8,bf16 --budget '$200/h' --confidence 80%
waferline plan llama-3-8b --clients 64 --think 5 --turns 4 --router session --on l40s,a10g --plot plan.html
waferline plan --on this
```

Every format × cache format × machine × degrees (tensor, pipeline, experts, attention on ranks of its own) is priced in closed form
with as many replicas as the load needs. The cheapest of each machine and format, and degrees that cost about as much, are simulated
under the traffic, and the fewest replicas that hold the goals are found by halving; behind a router that takes turns one replica
shows what all do. Then other options of the engine are tried (tokens of a step, sequences, prefill on replicas of its own) and
kept where they save. The plan and the runner-up are run again with more requests of another draw. All options of the load and the
engine of `simulate serving` are read; an option that is given stays.

The answer says what one replica fewer would miss, how much room the goals have, the price and the rates at which the runner-up
wins, goals that cost money, energy and carbon of a request, memory left, and a line that starts each engine, whose flags are in
`catalog/command_lines.yaml` with the page they were looked up in. Where nothing holds, the nearest goal is said and the exit code
is 3.

{table(["search", "time", "how known"], rows)}

Of {quality["groups"]} groups of measured configurations (one model, GPU, engine and its version, lengths) the chosen one gives
{percent(quality["share_of_best_median"])} of the best measured tokens/s/GPU in the median,
and {percent(quality["share_of_best_p10"])} at the 10 % quantile;
Kendall's tau of TPOT is {quality["tpot_kendall_tau_median"]:.2f} ({quality["tpot_groups"]} groups).

The probability of a plan is the share of published runs of its engine whose latency, given the same simulation, would have been
inside the goal. Stated from the runs of other models, held by the measured ones (single goals on open loads of vLLM):

{table(["stated", "held", "goals"], honest)}

Errors of TTFT and TPOT are taken for independent (their correlation is {two["correlation"]:.2f}); two goals together that are
stated at {percent(two["stated"])} held in {percent(two["held"])} ({two["goals"]:,} pairs stated at 90 % or more).
"""
