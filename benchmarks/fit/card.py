"""Write docs/accuracy-operators.md from the fitted records and a fresh test on other labs' tables. Nothing in it is typed."""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import yaml

from benchmarks.fit import other_labs
from benchmarks.fit.parameters import PARAMETERS
from benchmarks.fit.solve import error, predict
from benchmarks.fit.tables import CATALOG, MACHINES, ROOT, SILICON, table
from waferline.predict.efficiency import lent
from waferline.predict.efficiency.coefficients import coefficients
from waferline.predict.efficiency.intervals import log_quantiles

FEW_SHAPES = 30
# (title, operator kinds, formats, median and p90 to reach in per cent)
TARGETS = [
    ("GEMM bf16", ("gemm",), ("bf16",), 6, 20),
    ("GEMM fp8", ("gemm",), ("fp8", "fp8_block"), 9, 30),
    ("GEMM fp4", ("gemm",), ("fp4",), 8, 25),
    ("GEMM int8, weight-only", ("gemm",), ("int8", "w8a16", "w4a16"), None, None),
    ("decode attention", ("decode_attention",), None, 8, None),
    ("prefill attention", ("prefill_attention",), None, 10, None),
    ("MLA", ("mla_decode", "mla_prefill"), None, 12, None),
    ("fused MoE", ("moe",), None, 12, None),
    ("all-reduce", ("all_reduce",), None, 6, None),
    ("other collectives", ("all_gather", "reduce_scatter", "all_to_all", "p2p"), None, None, None),
    ("streaming", ("streaming",), None, None, None),
]
NOT_FITTED = """
- vLLM's `fp8_block` GEMM tables: host-bound (floors of 56 to 287 µs), not in the collection.
- Per-tensor fp8 MoE through vLLM's `modeloptfp8moe_flashinfer_cutlass` is an untuned path, 0.12 to 0.14 of peak on every machine:
  fitted as `vllm_flashinferexperts`, never the default.
- Eager all-reduce rows hold 15 to 40 µs of host time: fitted under names ending in `_eager`, never the default.
- TPU v6e (LLMServingSim): one model, erratic below 256 tokens; a test only. MI210 (LLMCompass): one weight matrix; a test only.
- vidur's H100 pairwise link table: byte-identical to the A100's.
- Norms of vidur and of LLMServingSim's first profiler: unfused.
"""


def records(name: str) -> Iterator[tuple[str, str, str, dict]]:
    path = CATALOG / f"{name}.yaml"
    if path.exists():
        for op, formats in yaml.safe_load(path.read_text())["records"].items():
            for fmt, engines in formats.items():
                for engine, card in engines.items():
                    yield op, fmt, engine, card


def _percent(x: float) -> str:
    return "-" if np.isnan(x) else f"{100 * x:.1f}"


def summary() -> list[str]:
    lines = [
        "| operator | records | rows | median of medians, % | at target | median p90, % | 90 % interval covers | to reach |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cards = [
        (op, fmt, card)
        for machine in MACHINES
        for op, fmt, engine, card in records(machine)
        if not engine.endswith("_eager")
    ]
    for title, ops, formats, want, want90 in TARGETS:
        mine = [c for op, fmt, c in cards if op in ops and (formats is None or fmt in formats)]
        medians = [c["median"] for c in mine]
        reached = f"{sum(100 * m <= want for m in medians)} of {len(mine)}" if want else "-"
        goal = (f"≤ {want}" + (f", p90 ≤ {want90}" if want90 else "")) if want else "-"
        covered = 100 * np.average([c["coverage90"] for c in mine], weights=[c["rows"] for c in mine])
        lines.append(
            f"| {title} | {len(mine)} | {sum(c['rows'] for c in mine):,} | {_percent(statistics.median(medians))} | {reached} | "
            f"{_percent(statistics.median(c['p90'] for c in mine))} | {covered:.0f} % | {goal} |"
        )
    return lines


def calibrated() -> list[str]:
    lines = [
        "| machine | operator | format | kernels | rows | groups | median, % | p90, % | covers, % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for machine in MACHINES:
        for op, fmt, engine, c in records(machine):
            lines.append(
                f"| {machine} | {op} | {fmt} | {engine} | {c['rows']} | {c['groups']} | "
                f"{_percent(c['median'])} | {_percent(c['p90'])} | {100 * c['coverage90']:.0f} |"
            )
    return lines


def transferred() -> list[str]:
    lines = [
        "| operator | format | kernels | median over machines, % | p90, % | covers, % | each machine left out, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for op, fmt, engine, c in records("transfer-nvidia-gpu"):
        each = ", ".join(f"{m} {_percent(e)}" for m, e in c["by_machine"].items())
        lines.append(
            f"| {op} | {fmt} | {engine} | {_percent(c['median'])} | {_percent(c['p90'])} | {100 * c['coverage90']:.0f} | {each} |"
        )
    return lines


def other_labs_test() -> list[str]:
    """The shipped constants on tables they were not fitted on; calibrated machines of other labs only as transferred."""
    lines = [
        "| machine | table | operator | rows | tier | median error, % | p90, % | bias, % | 90 % interval covers, % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for p in [*other_labs.gemm(), *other_labs.decode_attention()]:
        f = MACHINES[p.machine]["facts"]
        own = p.machine in ("a100", "h100", "h200", "b200", "rtxpro6000")
        record, tier = coefficients(p.machine if own else "unseen", p.op, p.fmt, f["arch"], f["vendor"], f["kind"])
        cold = replace(p, fixed=p.fixed | {"cache_warm": False})  # other labs cycle through a model's layers
        t = predict(cold, lent.constants(record, p.machine if own else "unseen", p.device, p.fmt))
        q05, _, _, q95 = log_quantiles(record.residual, t)
        x = np.log(p.t_s / t)
        median, p90 = error(t, p.t_s)
        lines.append(
            f"| {p.machine} | {p.engine} | {p.op} {p.fmt} | {len(p)} | {tier} | {_percent(median)} | {_percent(p90)} | "
            f"{100 * float(np.median(t / p.t_s - 1)):+.1f} | {100 * float(np.mean((x >= q05) & (x <= q95))):.0f} |"
        )
    return lines


def noise() -> list[str]:
    """How far two engines' kernels lie apart on the very same shape and machine: no model of the shape alone can do better."""
    keys = {
        "gemm": ["m", "n", "k"],
        "genattn": ["batch", "kv_len", "heads", "kv_heads", "head_dim", "window"],
        "ctxattn": ["batch", "q_len", "heads", "kv_heads", "head_dim", "window"],
    }
    lines = ["| table | machine | shapes in both | median difference, % | p90, % |", "|---|---|---|---|---|"]
    for kind, key in keys.items():
        for machine in SILICON:
            ours, theirs = table(machine, kind), table(machine, f"{kind}_trtllm")
            if theirs is None:
                continue
            dtype = "dtype" if kind == "gemm" else "kv_dtype"
            both = ours[ours[dtype] == "bfloat16"].merge(theirs[theirs[dtype] == "bfloat16"], on=key)
            if len(both) < FEW_SHAPES:
                continue
            apart = np.abs(np.log(both.t_s_x / both.t_s_y))
            lines.append(
                f"| {kind} bf16 | {machine} | {len(both)} | {_percent(apart.median())} | {_percent(apart.quantile(0.9))} |"
            )
    return lines


def constants() -> list[str]:
    names: dict[str, list[str]] = defaultdict(list)
    for op, parameters in PARAMETERS.items():
        names[op] = [p.name for p in parameters]
    return [
        "| operator | fitted constants |",
        "|---|---|",
        *(f"| {op} | {', '.join(f'`{n}`' for n in ns)} |" for op, ns in names.items()),
    ]


def page() -> str:
    h100 = yaml.safe_load((CATALOG / "h100.yaml").read_text())
    parts = [
        "# Accuracy of operator times",
        "Generated by `benchmarks/fit/card.py`. Errors are |predicted / measured − 1| on rows whose group was left out of the fit.",
        f"Main tables: {h100['source']}. Fitted {h100['date']}. Split: {h100['split']}.",
        "Cache terms are on against microbenchmarks (small weights and caches stay in L2 between runs), off in predictions.",
        "## Summary, calibrated machines", *_table(summary()),
        "## Machines never seen",
        "Every machine in turn left out: fitted on the vendor's others, predicted from its specification sheet.",
        *_table(transferred()),
        "## Other labs' tables",
        "Not used for these constants. Other labs differ from the main tables by 10 to 15 % on the same machine.",
        *_table(other_labs_test()),
        "## Noise floor", "vLLM and TensorRT-LLM on the same machine and the same shape.", *_table(noise()),
        "## What is not fitted", NOT_FITTED.strip(),
        "## Every record", *_table(calibrated()),
        "## The constants", *_table(constants()),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _table(lines: list[str]) -> list[str]:
    return ["\n".join(lines)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        (ROOT / "docs" / "accuracy-operators.md").write_text(page(), encoding="utf-8")
    else:
        print(page())


if __name__ == "__main__":
    main()
