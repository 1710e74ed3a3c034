"""The quantisation lesson: what fewer bits buy, where, and what engines really reached. Every number is computed here.

Run `python -m docs.build quantization` to write `docs/lessons/quantization.md`; the tests call the same functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import waferline as wl
from docs.pages.markdown import table, write
from waferline.evidence.folder import PACKAGED
from waferline.evidence.rows import Row, read_rows
from waferline.text import metric, percent

MODEL, MACHINE = "llama-3-8b", "h100"
CONTEXT = 2048
BATCHES = np.unique(np.geomspace(1, 1024, 200).astype(int))
SPEEDUPS = (2.0, 1.5)
PUBLISHED = Path(__file__).parent / "published.csv"  # gpt-fast README: complete but for the output length
_PACKED = ("int8", "int4", "q8_0", "q4_0", "q4_k_m")
_STATIC_TOKENS = 256  # generated, where a table does not say


def decode_speedups(
    model: str = MODEL, machine: str = MACHINE, engine: str | None = None
) -> dict[str, tuple[float, float]]:
    """Batch-1 decode against fp16: format -> (at the speed of light, expected)."""
    names = ["fp16", "int8", "int4"]
    r = wl.ServingModel().solve(model, machine, CONTEXT, 1, names, engine=engine)
    light, expected = r["light_itl_s"], r["itl_s"]
    return {n: (float(light[0] / light[i]), float(expected[0] / expected[i])) for i, n in enumerate(names)}


def resnet_training() -> dict[str, float]:
    """Training speed-up of ResNet-50 at batch 256 on A100 against fp16: weight-only formats, and 8-bit arithmetic."""
    names = ["fp16", "int8", "int4", "w8a8"]
    r = wl.SingleNodeModel().solve("resnet-50", "a100", 256, names, phase="train")
    return {n: float(r["latency_s"][0] / r["latency_s"][i]) for i, n in enumerate(names)}


def prefill_roofs() -> dict[str, tuple[float, float]]:
    """Prefill of 2,048 tokens: format -> (TTFT speed-up at the speed of light, ridge point in FLOP per byte)."""
    names = ["fp16", "int8", "w8a8", "fp8"]
    r = wl.ServingModel().solve(MODEL, MACHINE, CONTEXT, 1, names)
    ridge = np.broadcast_to(r["prefill_ridge_flops_per_byte"], (len(names),))
    return {n: (float(r["light_ttft_s"][0] / r["light_ttft_s"][i]), float(ridge[i])) for i, n in enumerate(names)}


def crossover(model: str = MODEL) -> dict[float, tuple[int | None, int | None]]:
    """The first batch at which INT4's decode speed-up falls below each of `SPEEDUPS`: (at the speed of light, expected).

    None where it is never reached (already below at batch 1 counts as batch 1).
    """
    r = wl.ServingModel().solve(model, MACHINE, CONTEXT, **wl.grid(precision=["fp16", "int4"], batch_size=BATCHES))
    ratios = {key: r[key][0] / r[key][1] for key in ("light_itl_s", "itl_s")}
    out = {}
    for wanted in SPEEDUPS:
        first = [int(BATCHES[np.argmax(x < wanted)]) if (x < wanted).any() else None for x in ratios.values()]
        out[wanted] = (first[0], first[1])
    return out


def frontier() -> Iterator[tuple[str, float, float, str]]:
    """(compression, size ratio, relative change of quality, of which metric) of quantisation and pruning, best first."""
    cases = [(f"quantisation, {bits} bits", {"target_bitwidth": bits}) for bits in (8, 4, 3, 2)]
    cases += [(f"pruning, {s:g} of weights", {"method": "pruning", "sparsity": s}) for s in (0.5, 0.75, 0.9)]
    rows = []
    for name, kwargs in cases:
        r = wl.CompressionModel().solve(MODEL, MACHINE, **kwargs)  # type: ignore[arg-type]
        rows.append((name, r.compression_ratio, r.estimated_accuracy_delta, r.about["quality_metric"]))
    yield from sorted(rows, key=lambda row: -row[2] if row[2] == row[2] else np.inf)


def measured_ratios() -> list[tuple[str, str, str, str, float, float]]:
    """What engines reached: (source, machine, model, format, measured ratio to 16 bits, expected ratio), batch-1 decode."""
    rows = [r for path in (PUBLISHED, PACKAGED) for r in read_rows(path) if _is_single_decode(r)]
    base = {_key(r): r.value for r in rows if r.weight_format in ("fp16", "bf16")}
    out: dict[tuple[str, ...], tuple[str, str, str, str, float, float]] = {}
    for r in rows:
        if r.weight_format in _PACKED and _key(r) in base:
            predicted = _expected_ratio(r)
            if predicted is not None:
                out[r.source, r.hardware, r.model, r.weight_format] = (
                    *(r.source, r.hardware, r.model, r.weight_format),
                    *(r.value / base[_key(r)], predicted),
                )
    return [out[k] for k in sorted(out)]


def _is_single_decode(r: Row) -> bool:
    return r.metric == "output_tokens_per_s" and r.phase == "decode" and r.batch == 1 and r.devices == 1


def _key(r: Row) -> tuple[object, ...]:
    return r.source, r.hardware, r.model, r.engine, r.input_tokens, r.output_tokens


def _expected_ratio(r: Row) -> float | None:
    """The same ratio predicted; None where the model or machine cannot be asked."""
    engine = "llama.cpp" if r.engine == "llama.cpp" else "static"
    prompt, output = max(int(r.input_tokens or 1), 1), int(r.output_tokens or _STATIC_TOKENS)
    names = ["fp16", r.weight_format]
    try:
        result = wl.ServingModel().solve(r.model, r.hardware, prompt, 1, names, output_len=output, engine=engine)
    except wl.WaferlineError:
        return None
    return float(result["itl_s"][0] / result["itl_s"][1])


def _measured_summary() -> list[list[str]]:
    """One row per source, model and format: how many machines, and their ratios."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for source, _machine, model, fmt, measured, expected in measured_ratios():
        found.setdefault((source, model, fmt), []).append((measured, expected))
    rows = []
    for (source, model, fmt), pairs in found.items():
        measured, expected = np.array(pairs).T
        span = f"{np.median(measured):.2f}× ({measured.min():.2f}–{measured.max():.2f})"
        rows.append([source, model, fmt, str(len(pairs)), span, f"{np.median(expected):.2f}×"])
    return rows


def _page() -> str:
    small, large = decode_speedups(), decode_speedups("llama-3-70b")
    roofs, train, cross, cross70 = prefill_roofs(), resnet_training(), crossover(), crossover("llama-3-70b")
    first = wl.ServingModel().solve(MODEL, MACHINE, CONTEXT, 1, "int4")
    speed = [[n, *(f"{x:.2f}×" for x in small[n]), *(f"{x:.2f}×" for x in large[n])] for n in small]
    roof = [[n, f"{x:.2f}×", f"{ridge:.0f}"] for n, (x, ridge) in roofs.items()]
    fall = [[f"{s:g}×", *(b or "never" for b in cross[s]), *(b or "never" for b in cross70[s])] for s in SPEEDUPS]
    edge = [
        [n, f"{ratio:.2f}×", percent(delta) if delta == delta else "nobody published", metric_name]
        for n, ratio, delta, metric_name in frontier()
    ]
    return f"""# What quantisation buys

Generated by `make pages`; the tests run the same functions. Machine: {first.about["hardware"]}; context {CONTEXT} tokens.

## Decode at batch 1 reads every weight once per token

At the speed of light time is bytes over bandwidth, so bits are everything. What stays in 16 bits (the KV cache,
{metric(float(first["kv_cache_bytes"]), "B")} here) and block scales keep INT4 below 4×; launches and the host, which
fewer bits do not shorten, keep the expected ratio lower still. A larger model hides them better.

{table(["format", "8B, light", "8B, expected", "70B, light", "70B, expected"], speed)}

(The 70B model does not fit one device in 16 bits; the ratio supposes that it did.)

## What engines really reached

{table(["source", "model", "format", "machines", "measured, median (range)", "expected, median"], _measured_summary())}

Less than the light ratio everywhere: the KV cache and activations stay wide, launches and the host do not shrink, and
unpacking 4-bit blocks costs instructions that a 16-bit weight does not.

## Prefill and training are bound by arithmetic

Weight-only formats move fewer bytes but multiply in 16 bits: nothing is gained where arithmetic binds. Formats that
the units multiply in (INT8, FP8 for weights *and* activations) raise the roof, and the ridge point with it.

{table(["format", "prefill TTFT, light", "ridge point, FLOP/byte"], roof)}

ResNet-50 training at batch 256 on A100, against fp16: {", ".join(f"{n} {x:.2f}×" for n, x in train.items())}.

## The batch at which INT4 stops paying

The KV cache grows with the batch and stays in 16 bits; then arithmetic takes over.

{table(["speed-up falls below", "8B, light", "8B, expected", "70B, light", "70B, expected"], fall)}

## Quality against size

Published losses at the nearest bits or sparsity (median of the rows that match; `waferline.predict.quality`). Perplexity
and accuracy are different scales: compare rows of one metric only.

{table(["compression", "size", "quality change", "of"], edge)}
"""


def build() -> list[Path]:
    """Write docs/lessons/quantization.md."""
    return [write("lessons/quantization.md", _page())]
