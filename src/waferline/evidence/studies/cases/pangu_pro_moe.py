"""Pangu Pro MoE: experts in groups, one group a device, so that no device waits for another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import absolute, at_least, printed, relative

_BILLION, _MILLI = 1e9, 1e-3
_DECODE = 0.15  # of the measured step


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts

    data = facts("pangu-pro-moe")
    yield from _parameters(data["parameters"])
    for row in data["throughput"]:
        rate = row["tokens"] / (row["latency_ms"] * _MILLI) / row["cards"]
        off = absolute(1.0, "digits printed, of a latency that is itself rounded")
        yield Check(f"{row['name']}, per card", "tok/s", float(row["printed"]), rate, off)
    yield from _routing(data["routing"])
    yield from _decode(data["decode"])
    why = "one row of this machine, and no dense row beside it: nothing to fit with and to check on"
    yield Check("300I Duo decode step alone", "ms", data["duo_alone_ms"], None, why=why)


def _parameters(published: Mapping[str, str]) -> Iterator[Check]:
    from waferline.workloads.counts import parameter_count
    from waferline.workloads.load import load_model

    count = parameter_count(load_model("pangu-pro-moe"))
    for name, value in (("total", count.total), ("active", count.active_per_token)):
        yield Check(f"parameters, {name}", "B", float(published[name]), value / _BILLION, printed(published[name]))


def _routing(r: Mapping[str, int]) -> Iterator[Check]:
    from waferline.techniques.grouped_experts import grouped_gates, imbalance_score, monte_carlo, top_k_gates

    trials = {"tokens": r["tokens"], "experts": r["experts"], "trials": 300}
    score = partial(imbalance_score, devices=r["groups"])
    plain = monte_carlo(partial(top_k_gates, k=r["chosen"]), score, **trials)
    grouped = monte_carlo(partial(grouped_gates, k=r["chosen"], groups=r["groups"]), score, **trials)
    yield Check("share of unbalanced steps, top-k, 16 tokens", "", 1.0, float((plain > 0).mean()), at_least(0.99))
    yield Check("worst imbalance, grouped", "", 0.0, float(grouped.max()), absolute(0.0, "exact"))


def _decode(d: Mapping[str, Any]) -> Iterator[Check]:
    from waferline.techniques.dispatch_cost import Step, fit_dense, with_dispatch

    dense = [
        Step(m["parameters"], m["parameters"], m["layers"], batch, m[time] * _MILLI)
        for m in d["dense"]
        for batch, time in ((1, "alone_ms"), (m["batch"], "batch_ms"))
    ]
    m, bare = d["moe"], fit_dense(dense)
    alone = bare.step_s(m["active"], m["active"], m["layers"], 1, mixture=False)
    why = "gating, token dispatch and small expert matrices cost time on every layer, which dense models do not show"
    limit = relative(_DECODE)
    yield Check("decode step alone, no dispatch term", "ms", m["alone_ms"], alone / _MILLI, limit, why=why)
    cost = with_dispatch(bare, Step(m["active"], m["active"], m["layers"], 1, m["alone_ms"] * _MILLI))
    alone = cost.step_s(m["active"], m["active"], m["layers"], 1, mixture=True)
    yield Check("decode step alone, with dispatch", "ms", m["alone_ms"], alone / _MILLI, limit, fitted=True)
    full = cost.step_s(m["parameters"], m["active"], m["layers"], m["batch"], mixture=True)
    yield Check(f"decode step of {m['batch']}, same dispatch", "ms", m["batch_ms"], full / _MILLI, limit)


STUDY = Study(
    name="pangu-pro-moe",
    title="Pangu Pro MoE: mixture of grouped experts",
    source=Source("https://arxiv.org/abs/2505.21411", "2025-05-28"),
    claim="balanced by construction: 1148 tokens/s a card in decode, 4828 in prefill, on Ascend 800I A2",
    configuration={"model": "72B, 16B active, 64 experts in 8 groups", "machines": "Ascend 800I A2, 300I Duo, W8A8"},
    compute=compute,
    note="the dense models of the source are unnamed: their layer counts are assumed (64 and 80)",
)
