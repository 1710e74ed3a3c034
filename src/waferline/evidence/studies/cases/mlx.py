"""MLX on Apple silicon: which published timings can be true, and a roofline for the ones that can."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from waferline.evidence.claims.claim import Claim
from waferline.evidence.claims.judge import judge_claim
from waferline.evidence.claims.series import fastest_flops, judge_series
from waferline.evidence.claims.work import one_pass_flops
from waferline.evidence.studies.facts import Facts, fact_rows
from waferline.evidence.studies.study import Check, own
from waferline.evidence.studies.tolerance import absolute, at_most, between
from waferline.formats import Precision
from waferline.machines.hardware import load_hardware
from waferline.workloads.load import load_model

_FACTOR = 1.5  # a roofline row further off than this is listed
_FLOAT_BYTES, _MILLI = 4, 1e-3
_EXACT = absolute(0.0, "exact")
_WHY = "small products leave part of the GPU idle, which two roofs do not know"


def compute(d: Facts) -> Iterator[Check]:
    yield from _series(d["characters_per_token"])
    yield from _linear(d["linear"])
    yield from _phi3(d["phi3"])
    why = "only a summary of the paper's own tables was readable, without lengths or formats"
    yield Check("tables of the paper", "ms", None, None, why=why)


def _series(characters_per_token: float) -> Iterator[Check]:
    """Every column of the lazy commit by the same rule: 1 is rejected."""

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
        yield own(f"{name}, {engine}: rejected", "", lazy, float(not verdict.accepted), _EXACT)


def _linear(d: Facts) -> Iterator[Check]:
    """Bandwidth from the thinnest product, arithmetic from the widest; the two between are predicted."""

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
            yield Check(
                f"Linear K={d['inner'][i]}, {label}", "ms", published, predicted, limit, why=_WHY, stated_kind="data"
            )
        peak = load_hardware(machine["name"]).peak("fp32")
        yield Check(f"Linear, {label}, share of peak", "", None, arithmetic / peak, at_most(1.0, "law of arithmetic"))


def _phi3(rows: list[Facts]) -> Iterator[Check]:
    """The clean record of the later commit passes every law."""

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
            yield own(f"Phi-3, prompt {row['prompt']}, {metric}: rejected", "", 0.0, rejected, _EXACT)
