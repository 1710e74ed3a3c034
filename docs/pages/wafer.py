"""Writes `docs/wafer.md`: the published wafer tables with our figures and errors beside, and what they cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from benchmarks.fit.wafer import design
from benchmarks.fit.wafer_rows import Published, energy_ratio, table

from docs.pages.markdown import table as markdown_table
from waferline.catalog.yaml_file import read_packaged
from waferline.errors import WaferlineError
from waferline.machines.mesh import load_parameters
from waferline.machines.mesh_costs.fitted import RELEASED_GROUPS, tree_stages
from waferline.predict.wafer import (
    WaferResidentModel,
    WeightStreamingModel,
    best_gemv,
    capacity_tokens,
    tune,
)
from waferline.predict.wafer.case import make_case
from waferline.workloads.load import load_model
from waferline.workloads.spec import MixtureOfExperts

PAGE = Path(__file__).parent.parent / "wafer.md"
WSE2 = load_parameters("wse2-waferllm")
CONTEXT = 4096  # of Tables 3 and 4
BLIND = ("llama-2-13b", "codellama-34b")
GEMV_SIDES = {"1-16k-x-16k-16k": 16384, "1-32k-x-32k-32k": 32768}
FITTED_CONSTANTS = 3  # of each phase; fewer rows leave nothing to judge by
Rows = Iterable[Sequence[str]]


def error(ours: float, published: float) -> str:
    return f"{ours / published - 1:+.1%}"


def released_rate(model: object, side: int, phase: str) -> float:
    """Tokens per second as the released code reports them: one layer times the layer count."""
    case, length, one = make_case(model, "cs2", "fp16", "released-code"), np.asarray(float(CONTEXT)), np.ones(())
    if phase == "decode":
        return float(1 / case.decode(side, length, one, tree_stages(side, RELEASED_GROUPS[side])).time_s)
    return float(CONTEXT / case.prefill(side, length, one).time_s)


def rate_table(name: str, phase: str) -> str:
    rows = []
    for row in table(name, system="cerebras-wse2"):
        side, ours = row.grids[0], released_rate(row.model, row.grids[0], phase)
        rows.append(
            [row.model, f"{side}²", f"{row.value:,.1f}", f"{ours:,.1f}", error(ours, row.value), row.role, row.id]
        )
    return markdown_table(("model", "grid", "published tok/s", "ours", "error", "role", "row"), rows, left=1)


def end_to_end() -> str:
    rows = []
    for row in table("Table 2"):
        prefill, decode = row.grids
        result = WaferResidentModel().solve(
            row.model,
            "cs2",
            row.input_tokens,
            output_len=row.output_tokens,
            prefill_grid=prefill,
            decode_grid=decode,
            counting="released-code",
        )
        ours = float(result["request_tokens_per_s"])
        lengths = f"{row.input_tokens} → {row.output_tokens}"
        rows.append([lengths, f"{row.value:,.1f}", f"{ours:,.1f}", error(ours, row.value), row.role, row.id])
    return markdown_table(("prompt → output", "published tok/s", "ours", "error", "role", "row"), rows, left=1)


def blind_predictions() -> str:
    rows = []
    for name in BLIND:
        for phase, sides in (("decode", (420, 540, 660)), ("prefill", (480, 600, 720))):
            rates = [f"{released_rate(name, side, phase):,.0f}" for side in sides]
            rows.append([name, phase, ", ".join(f"{s}²" for s in sides), ", ".join(rates)])
    return markdown_table(("model", "phase", "grids", "predicted tok/s"), rows, left=3)


def kv_capacity() -> str:
    concat, shift = (row.value for row in table("Table 5"))
    side = table("Table 5")[0].grids[0]
    ours = [float(capacity_tokens(WSE2.data_bytes / 2, 1024, 1, side, policy=p)) for p in ("concat", "shift")]
    row = ["llama-3-8b", f"{side}²", f"{shift / concat:.1f}", f"{ours[1] / ours[0]:.1f}"]
    row.append(error(ours[1] / ours[0], shift / concat))
    return markdown_table(("model", "grid", "published shift : concat", "ours", "error"), [row], left=1)


def gemv() -> str:
    rows = []
    for row in table("Table 6", system="cerebras-wse2"):
        side = GEMV_SIDES[row.model]
        grid, cycles = best_gemv(side, side, WSE2)
        ours_us = cycles / WSE2.clock_hz * 1e6
        published_us = row.value * 1e3
        size = f"{side} × {side}"
        rows.append([size, f"{published_us:.2f}", f"{ours_us:.2f}", error(ours_us, published_us), f"{grid}²", row.id])
    return markdown_table(("matrix", "published µs", "ours µs", "error", "our best grid", "row"), rows, left=1)


def energy() -> str:
    rows = []
    for name in ("Table 6", "Table 7", "Table 8"):
        for ratio in table(name, metric="energy ratio"):
            same = [r for r in table(name) if r.model == ratio.model and r.unit != "x"]
            gpu = next(r for r in same if r.system == "nvidia-a100" and r.devices == ratio.devices)
            wafer = next(r for r in same if r.system == "cerebras-wse2")
            times = (gpu.value, wafer.value) if gpu.unit == "ms" else (1 / gpu.value, 1 / wafer.value)
            ours = energy_ratio(ratio.devices, *times, wafer_w=WSE2.power_w)
            what = f"{name}: {ratio.model}"
            rows.append([what, str(ratio.devices), f"{ratio.value:g}", f"{ours:.3g}", error(ours, ratio.value)])
    return markdown_table(("work", "A100s", "published ratio", "ours", "error"), rows, left=1)


def served() -> str:
    """Public single-stream rates beside one pass per token on WSE-3, with what lies between them."""
    rows = []
    for row in table("served", metric="output speed"):
        start = [row.model, f"{row.input_tokens:,}" if row.input_tokens else "–", f"{row.value:,.0f}"]
        try:
            result = WaferResidentModel().solve(row.model, "cs3", row.input_tokens or 1024, output_len=256)
        except WaferlineError as problem:
            rows.append([*start, "–", "–", "–", f"not placed: {problem.kind}", row.id])
            continue
        ours = float(result["user_tokens_per_s"])
        slow, fast = 1 / float(result["itl_high_s"]), 1 / float(result["itl_low_s"])
        span, systems = f"{slow:,.0f} – {fast:,.0f}", f"{float(result['systems']):.0f}"
        rows.append([*start, f"{ours:,.0f}", span, systems, reading(row, slow, fast), row.id])
    header = ("model", "prompt", "published tok/s", "one pass, ours", "range", "our wafers", "reading", "row")
    return markdown_table(header, rows, left=1)


def reading(row: Published, slow: float, fast: float) -> str:
    """What a published rate suggests beside the range of one pass per token."""
    if row.value <= fast:
        return "one pass per token" if row.value >= slow else "below one pass: other limits"
    experts = any(isinstance(block.ffn, MixtureOfExperts) for block in load_model(row.model).blocks)  # type: ignore[union-attr]
    return "speculation, or experts side by side" if experts else "speculative decoding likely"


def streaming() -> str:
    rows = []
    for model in ("llama-3-8b", "llama-3-70b"):
        for phase, batch in (("prefill", 1), ("prefill", 26), ("decode", 1), ("train", 16)):
            r = WeightStreamingModel().solve(model, "cs3", 2048, batch, phase=phase)  # type: ignore[arg-type]
            fits = "yes" if bool(r["feasible"]) else "no"
            rate = float(r["throughput_tokens_per_s"])
            pass_s = float(r["pass_s"])
            rows.append(
                [
                    model,
                    phase,
                    str(batch),
                    fits,
                    f"{pass_s:.3g}",
                    f"{rate:,.4g}" if np.isfinite(rate) else "–",
                    str(r["bottleneck"]),
                    f"{float(r['break_even_batch_size']):,.0f}",
                    f"{float(r['max_batch_size']):,.0f}",
                ]
            )
    header = ("model", "phase", "batch", "fits", "pass, s", "tok/s", "bound by", "break-even batch", "largest batch")
    return markdown_table(header, rows, left=2)


def autotuned() -> str:
    rows = []
    for model, device in (("llama-3-8b", "cs2"), ("llama-3-8b", "cs3"), ("llama-3-70b", "cs3")):
        for phase in ("prefill", "decode"):
            for objective in ("latency", "throughput"):
                best = tune(model, device, CONTEXT, phase=phase, objective=objective)  # type: ignore[arg-type]
                tree = f"{float(best['levels']):.0f}, {float(best['group_size']):.0f}" if phase == "decode" else "–"
                rows.append(
                    [
                        f"{model} on {device}",
                        phase,
                        objective,
                        f"{float(best['grid']):.0f}²",
                        tree,
                        f"{float(best['systems']):.0f}",
                        f"{float(best['time_s']) * 1e3:.3g}",
                        f"{float(best['core_bytes']):,.0f}",
                        f"{float(best['colours']):.0f}",
                    ]
                )
    header = ("what", "phase", "best for", "grid", "K, group", "wafers", "ms", "bytes/core", "colours")
    return markdown_table(header, rows, left=3)


def calibration() -> str:
    rows = []
    for name, entry in read_packaged("mesh_fits.yaml").items():
        for phase in ("decode", "prefill"):
            if fit := entry[phase]:
                ids = ", ".join(fit["calibrated_on"])
                rows.append([name, phase, str(entry["date"]), ids, *fit_errors(name, phase, len(fit["calibrated_on"]))])
    return markdown_table(("set", "phase", "fitted", "rows", "worst error", "worst when left out"), rows, left=4)


def fit_errors(name: str, phase: str, count: int) -> list[str]:
    """Largest error on the calibration rows, and of a row predicted from all the others."""
    if count <= FITTED_CONSTANTS:
        return ["0.1%, by construction", "too few rows"]
    problem = design(name, phase)
    return [f"{np.abs(e).max():.1%}" for e in (problem.rate_errors(problem.fit()), problem.left_out())]


INTRODUCTION = """# A wafer in a minute

A wafer-scale processor is a mesh of several hundred thousand small cores, each with 48 KB of memory, and no memory
outside. A model either lives in that memory (*wafer-resident*) or flows through it layer by layer (*weight streaming*).
waferline predicts both. `make pages` generates this page: every figure in its tables is computed or read, none typed.

```
waferline predict llama-3-8b --on cs2 --strategy wafer-resident
waferline predict llama-3-70b --on cs3 --strategy weight-streaming
```

**How a resident model runs.** Each layer is cut over both axes of a square region of cores. A decode step is a chain of
matrix-vector products whose partial sums meet in ten all-reduces per layer; their software stages, not bandwidth, set
the pace. A prefill is a chain of matrix products that shift tiles two hops per step. A request walks through all
regions in turn, so its rate does not grow with the number of regions; many requests fill them as a pipeline.

"""


def sections() -> list[tuple[str, str, Callable[[], str] | None]]:
    return [
        (
            "What calibrates and what is held out",
            "Constants come from these rows alone; everything else here is a prediction. The 13B and 34B models "
            "of the paper are in no calibration. `WL` rows are of WaferLLM (OSDI'25), `W3` rows of its notebook. The "
            "last column predicts each row from constants fitted on all the others: what to expect on new rows.",
            calibration,
        ),
        (
            "Decode, Table 4",
            "Tokens per second of one request at 4,096 tokens of context.",
            lambda: rate_table("Table 4", "decode"),
        ),
        ("Prefill, Table 3", "A prompt of 4,096 tokens.", lambda: rate_table("Table 3", "prefill")),
        (
            "Blind predictions",
            "Models whose rows we do not hold, written down before any comparison. Compare them with the paper.",
            blind_predictions,
        ),
        (
            "End to end, Table 2",
            "LLaMA3-8B, prefill on 660², decode on 360²; output tokens over the whole time. Nothing was fitted on it.",
            end_to_end,
        ),
        (
            "KV cache, Table 5",
            "Appending fills one row of cores; shifting keeps all rows level. The ratio is the number of rows. The "
            "published absolute capacity depends on how many layers share a core, which the paper does not state.",
            kv_capacity,
        ),
        ("Matrix-vector product, Table 6", "The paper names no grid: ours is the best of all.", gemv),
        (
            "Energy, Tables 6 to 8",
            "Energy of A100s over that of the wafer, from published times and powers alone: 400 W per A100, 15 kW per "
            "wafer. Where the error is above 2 %, the published ratio has two digits or fewer.",
            energy,
        ),
        (
            "Served rates",
            "Public rates of one stream beside one pass per token with the WSE-3 constants (fp16, output 256, prompt "
            "1,024 where none is stated). The range spans the constants that the two WSE-3 layers allow. Where a dense "
            "model is served faster than all of it, speculative decoding is the likely reason; narrower weights or a "
            "faster kernel would look the same. Experts run one after another in our mapping; mixtures may be served "
            "faster without it. No row here calibrates anything.",
            served,
        ),
        (
            "Weight streaming",
            "One CS-3, 2,048 tokens per sequence, 150 GB/s of I/O, half of the dense peak. Dense fp16 weights pay for "
            "their own streaming from about 53,000 tokens in flight: prefill and training get there, decode does not.",
            streaming,
        ),
        (
            "Autotuned grids",
            "Every side of the wafer and every tree depth K, under the limits on grid, bytes per core and colours.",
            autotuned,
        ),
    ]


LIMITS = """
## What it cannot tell

- **WSE-3 rests on two layers** of one third-party notebook, timed with profiling on. A cost per row and a fixed cost
  cannot be told apart there, so grids far from 240 to 360 extrapolate. Its prefill was never timed: a lower bound.
- **Trees of K = 1 and 3** use constants fitted on K = 2.
- **Regions are square and a layer stays in one.** Vendors place layers more tightly: four systems are quoted for a 70B
  model in fp16, more are needed here. Large expert layers may not be placed at all.
- **Embedding lookup, sampling and host time** are outside; the output head is inside.
- **Ranges are not probabilities**: they span the constants that so few rows allow.
"""


def build() -> list[Path]:
    """Write the page; the paths written."""
    body = [INTRODUCTION]
    for title, text, make in sections():
        body.append(f"## {title}\n\n{text}\n\n{make() if make else ''}\n")
    PAGE.write_text("\n".join(body) + LIMITS, encoding="utf-8")
    return [PAGE]


if __name__ == "__main__":
    print(*build(), sep="\n")
