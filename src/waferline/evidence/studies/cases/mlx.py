"""MLX on Apple silicon: which published timings can be true, and a roofline for the ones that can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import absolute, at_most, between

_FACTOR = 1.5  # a roofline row further off than this is listed
_FLOAT_BYTES, _MILLI = 4, 1e-3
_EXACT = absolute(0.0, "exact")
_WHY = "small products leave part of the GPU idle, which two roofs do not know"


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts

    d = facts("mlx")
    yield from _series(d["characters_per_token"])
    yield from _linear(d["linear"])
    yield from _phi3(d["phi3"])
    why = "only a summary of the paper's own tables was readable, without lengths or formats"
    yield Check("tables of the paper", "ms", None, None, why=why)


def _series(characters_per_token: float) -> Iterator[Check]:
    """Every column of the lazy commit by the same rule: 1 is rejected."""
    import numpy as np

    from waferline.evidence.claims.series import fastest_flops, judge_series
    from waferline.evidence.claims.work import one_pass_flops
    from waferline.evidence.studies.facts import fact_rows
    from waferline.formats import Precision
    from waferline.workloads.load import load_model

    peak = fastest_flops("apple")
    model, precision = load_model("bert-base"), Precision("fp32", "fp32", "fp32", "fp32")
    columns: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in fact_rows("mlx-bert"):
        tokens = np.ceil(float(row["characters"]) / characters_per_token)
        flops = float(row["batch"]) * float(one_pass_flops(model, precision, tokens))
        columns.setdefault((row["model"], row["engine"]), []).append((flops, float(row["milliseconds"]) * _MILLI))
    for (name, engine), series in columns.items():
        work, times = np.array(series).T
        verdict = judge_series(work, times, peak)
        lazy = float(engine.startswith("mlx"))
        yield Check(f"{name}, {engine}: rejected", "", lazy, float(not verdict.accepted), _EXACT)


def _linear(d: Mapping[str, Any]) -> Iterator[Check]:
    """Bandwidth from the thinnest product, arithmetic from the widest; the two between are predicted."""
    from waferline.machines.hardware import load_hardware

    s = d["shape"]
    rows = s["batch"] * s["rows"]
    flops = [2.0 * rows * k * s["out"] for k in d["inner"]]
    moved = [_FLOAT_BYTES * (rows * (k + s["out"]) + k * s["out"]) for k in d["inner"]]
    for label, machine in d["machines"].items():
        times = [t * _MILLI for t in machine["ms"]]
        bandwidth, arithmetic = moved[0] / times[0], flops[-1] / times[-1]
        for i in (1, 2):
            predicted = max(moved[i] / bandwidth, flops[i] / arithmetic) / _MILLI
            published = machine["ms"][i]
            limit = between(published / _FACTOR, published * _FACTOR)
            yield Check(f"Linear K={d['inner'][i]}, {label}", "ms", published, predicted, limit, why=_WHY)
        peak = load_hardware(machine["name"]).peak("fp32")
        yield Check(f"Linear, {label}, share of peak", "", None, arithmetic / peak, at_most(1.0, "law of arithmetic"))


def _phi3(rows: list[Mapping[str, Any]]) -> Iterator[Check]:
    """The clean record of the later commit passes every law."""
    from waferline.evidence.claims.claim import Claim
    from waferline.evidence.claims.judge import judge_claim

    for row in rows:
        for metric, value in (("output_tokens_per_s", row["decode_tokens_per_s"]), ("ttft_s", row["ttft_s"])):
            claim = Claim(
                text="phi-3",
                model="phi-3-mini",
                machine="apple-m2-max-38c",
                metric=metric,
                value=value,
                precision="int4",
                batch=1,
                input_tokens=row["prompt"],
                output_tokens=row["output"],
            )
            rejected = float(judge_claim(claim).status == "infeasible")
            yield Check(f"Phi-3, prompt {row['prompt']}, {metric}: rejected", "", 0.0, rejected, _EXACT)


STUDY = Study(
    name="mlx",
    title="Benchmarking on-device machine learning on Apple silicon with MLX",
    source=Source("https://arxiv.org/abs/2510.18921", "2025-10-21"),
    claim="transformer forward passes of under a millisecond on a Mac",
    configuration={"models": "BERT, RoBERTa, XLM-R, Phi-3", "machines": "unnamed Mac, M1, M2 Max", "framework": "MLX"},
    compute=compute,
    note="columns are judged by one rule for all: implied arithmetic against the fastest Apple machine, and growth",
)
