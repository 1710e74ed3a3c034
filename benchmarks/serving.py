"""Speed of the request simulator and error of its tables: `python -m benchmarks serving`.

Writes `benchmarks/results/serving_speed.json`, which `docs/serving.md` is made from.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

import waferline as wl
from waferline.machines.hardware import load_hardware
from waferline.predict.engine import get_engine
from waferline.predict.serving_case import serving_case
from waferline.predict.step import StepModel
from waferline.simulate.serving.step_time import step_seconds
from waferline.workloads.load import load_model
from waferline.workloads.scenario import Parallel

RESULTS = Path(__file__).parent / "results" / "serving_speed.json"
REQUESTS, OUTPUT = 1_000_000, 256
POINTS = 1000
MODELS = (
    ("llama-3-8b", "h100", 1),
    ("qwen3-30b-a3b", "h100", 2),
    ("deepseek-v2-lite", "a100", 1),
    ("gemma-3-4b", "l40s", 1),
)
# Requests per CPU second that others' simulators made, each on its own model of time. The first three were run on a machine of this
# kind (20,000 requests 1,024/256 at 8/s; 1,000 of 512/256 at 4/s; an earlier run), and none of them here: they are no packages.
# The others are what their authors state.
PEERS = (
    ("inference-sim (BLIS) f90a1e3a", 281.0, "measured"),
    ("DistServe simulator 82831f1", 135.0, "measured"),
    ("vidur 7d47513", 34.0, "measured"),
    ("Dynamo replay (ai-dynamo pull request 7543)", 770.0, "stated"),
    ("LLMServingSim 2, in BLIS's log", 61.0, "stated"),
)


def speed() -> dict[str, float]:
    """Requests per CPU second of a steady open load, once compiled."""
    asked = wl.Scenario(model="llama-3-8b", machine="h100", precision="fp16")
    wl.simulate_serving(asked, wl.Traffic(requests=100, rate_per_s=8.0))
    start = time.process_time()
    wl.simulate_serving(asked, wl.Traffic(requests=REQUESTS, rate_per_s=8.0, prompt=1024, output=OUTPUT))
    seconds = time.process_time() - start
    return {"requests": REQUESTS, "output_tokens": OUTPUT, "cpu_s": round(seconds, 1)}


def table_errors() -> dict[str, float]:
    """Absolute error of a looked-up step against its operators, over random steps of several models."""
    random, errors = np.random.default_rng(0), []
    for model, machine, tp in MODELS:
        case = serving_case(load_model(model), load_hardware(machine), get_engine("vllm"), None, "static", False)
        step = StepModel.of(case, "bf16", Parallel.of(tp=tp), graphed=512)
        tables = step.tables(512, 8704, 32768)
        for _ in range(POINTS // len(MODELS)):
            decodes, context = int(random.integers(1, 500)), float(random.integers(16, 30_000))
            tokens, cached = int(random.integers(0, 8192)), float(random.integers(0, 20_000))
            direct = float(step.step_s(float(decodes), context, float(tokens), cached))
            pairs = tokens * (cached + 0.5 * (tokens + 1.0))
            errors.append(abs(step_seconds(tables, decodes, decodes * context, tokens, pairs) / direct - 1.0))
    return {"points": len(errors), "median": float(np.median(errors)), "p95": float(np.quantile(errors, 0.95))}


def main() -> None:
    peers = [dict(zip(("simulator", "requests_per_s", "how"), row, strict=True)) for row in PEERS]
    ran, errors = speed(), table_errors()
    results = {"speed": ran, "tables": errors, "peers": peers}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    mine = ran["requests"] / ran["cpu_s"]
    print(f"{'waferline':<45} {mine:>9,.0f} requests/s, measured here")
    for name, rate, how in PEERS:
        print(f"{name:<45} {rate:>9,.0f} requests/s, {how}: {mine / rate:,.0f} times slower")
    print(f"error of tables: {errors}")


if __name__ == "__main__":
    main()
