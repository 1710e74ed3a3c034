"""What our models expect of a request: value, 95 % interval, and what a wafer adds to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from waferline.errors import WaferlineError
from waferline.evidence.answer import Answer
from waferline.evidence.ask import ask
from waferline.evidence.claims.spread import spread
from waferline.evidence.machines import machine
from waferline.evidence.names import model_spec
from waferline.evidence.request import Refusal, Request

# Intervals of predictions hold 90 %; of a bell curve in the logarithm 95 % lie within 1.960 of which 1.645 hold 90 %.
_WIDER = 1.960 / 1.645


@dataclass(frozen=True, slots=True)
class Expected:
    """An expectation in the unit of the metric. `tier` says how well the machine is known."""

    value: float
    low95: float
    high95: float
    tier: str


def expected(requests: Sequence[Request], progress: Callable[[int], None] | None = None) -> list[Expected | Refusal]:
    """An expectation, or why there is none, for every request in order."""
    wafers = [machine(r.hardware).kind == "wafer" for r in requests]
    answers = iter(ask([r for r, wafer in zip(requests, wafers, strict=True) if not wafer], progress))
    out: list[Expected | Refusal] = []
    for request, wafer in zip(requests, wafers, strict=True):
        if wafer:
            out.append(_on_wafer(request))
            continue
        answer = next(answers)
        if isinstance(answer, Refusal):
            out.append(answer)
        else:
            out.append(_expected(request, answer))
    return out


def _expected(request: Request, answer: Answer) -> Expected:
    """The model's interval at 95 %, and at least the spread of published values of this kind."""
    low, high = (_widen(answer.value, end) for end in (answer.low90, answer.high90))
    fast, slow = spread(request)
    down, up = (slow, fast) if _more_is_faster(request) else (fast, slow)
    return Expected(answer.value, min(low, answer.value / down), max(high, answer.value * up), answer.tier)


def _more_is_faster(request: Request) -> bool:
    """False for times; every rate and utilisation is better when larger."""
    return not request.answer.endswith("_s") or request.answer.endswith("per_s")


def _widen(value: float, end: float) -> float:
    return float(value * (end / value) ** _WIDER) if value > 0 and end > 0 else end


def _on_wafer(r: Request) -> Expected | Refusal:
    """Weights in SRAM: the step by closed form, with the range that the calibration rows allow."""
    from waferline.predict.wafer import WaferResidentModel

    reader = _WAFER.get(r.answer)
    if reader is None or r.load != "static":
        return Refusal("metric", f"{r.answer} under load is not predicted for wafers")
    try:
        result = WaferResidentModel().solve(
            model_spec(r.model),
            r.hardware,
            int(np.ceil(r.input_tokens)),
            int(r.batch),
            r.precision,
            output_len=int(r.output_tokens),
            systems=int(r.devices) if r.devices > 1 else "auto",
        )
    except WaferlineError as error:
        return Refusal(error.kind, str(error))
    v = {k: float(np.ravel(result[k])[0]) for k in ("itl_s", "itl_low_s", "itl_high_s", "ttft_s")}
    if result["systems"] > r.devices:
        return Refusal("does-not-fit", f"needs {float(result['systems']):.0f} wafers")
    times = (v["itl_s"], v["itl_low_s"], v["itl_high_s"])
    value, low, high = (reader(v["ttft_s"], itl, r) for itl in times)
    return Expected(value, min(low, high), max(low, high), "spec only")


_WAFER: dict[str, Callable[[float, float, Request], float]] = {
    "ttft_s": lambda ttft, itl, r: ttft,
    "tpot_s": lambda ttft, itl, r: itl,
    "decoded_tokens_per_s": lambda ttft, itl, r: r.batch / itl,
    "latency_s": lambda ttft, itl, r: ttft + max(r.output_tokens - 1, 0) * itl,
    "output_tokens_per_s": lambda ttft, itl, r: r.batch * r.output_tokens / (ttft + max(r.output_tokens - 1, 0) * itl),
}
