"""KV Prediction: a small model fills the KV cache of a large one, so that the prompt costs less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import AIM, absolute, printed, relative

_LEAVE_ONE_OUT = 0.03  # of the measured TTFT
_FLOPS_ONLY = 0.03  # what a FLOPs model would have to reach to be as good; it does not
_WHY_FLOPS = "FLOPs do not see the predictor's traffic and the assembly of the cache, about 0.57 s for every model"


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts
    from waferline.techniques.kv_prediction import flops_ratio

    data = facts("kv-prediction")
    for row in data["ratios"]:
        ratio = flops_ratio(row["base"], row["auxiliary"])
        yield Check(f"FLOPs ratio, {row['name']}", "×", float(row["ratio"]), ratio, printed(row["ratio"]))
    yield from _times(data["ttft"], data)
    yield Check("identity predictor against an ordinary pass", "max error", 0.0, _identity_error(), absolute(1e-12))


def _times(rows: Sequence[Mapping[str, Any]], data: Mapping[str, Any]) -> Iterator[Check]:
    import numpy as np

    from waferline.techniques.kv_prediction import flops_ratio, leave_one_out

    totals = np.array([r["predicted_s"] for r in rows])
    left_out = leave_one_out(np.array([r["alone_s"] for r in rows]), totals)
    for row, predicted in zip(rows, left_out, strict=True):
        name = f"TTFT {row['name']}, auxiliary measured + constant of the others"
        yield Check(name, "s", row["predicted_s"], float(predicted), relative(_LEAVE_ONE_OUT))
    only = np.array([data["base_ttft_s"] / flops_ratio("1.1B", r["auxiliary"]) for r in rows])
    for row, predicted in zip(rows, only, strict=True):
        limit = relative(_FLOPS_ONLY)
        yield Check(
            f"TTFT {row['name']}, FLOPs alone", "s", row["predicted_s"], float(predicted), limit, why=_WHY_FLOPS
        )
    misses, said = 1 - only / totals, data["flops_alone_misses"]
    for which, value in (("least", misses.min()), ("most", misses.max())):
        yield Check(f"FLOPs alone miss by, {which}", "of TTFT", said[which], float(value), absolute(0.005, AIM))


def _identity_error() -> float:
    import numpy as np

    from waferline.techniques.kv_prediction import first_token
    from waferline.techniques.small_decoder import SmallDecoder

    layers, width = 3, 16
    model = SmallDecoder.random(layers, width, seed=0)
    prompt = np.random.default_rng(1).standard_normal((9, width))
    identity = [(np.eye(width), np.eye(width))] * layers
    predicted = first_token(model, model, identity, range(layers), prompt)
    return float(np.abs(predicted - model.run(prompt)[0][-1:]).max())


STUDY = Study(
    name="kv-prediction",
    title="KV Prediction for improved time to first token",
    source=Source("https://arxiv.org/abs/2410.08391", "2024-10-10"),
    claim="a small model and linear maps fill the cache of a large one: 1.76 times faster to the first token",
    configuration={"models": "OpenELM 270M to 3B", "machine": "Apple M2 Pro CPU", "batch": "64", "prompt": "59 tokens"},
    compute=compute,
)
