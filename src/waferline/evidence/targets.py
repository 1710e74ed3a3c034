"""What the predictions aim at, by kind of row: the lines of the accuracy card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from waferline.evidence.names import model_spec
from waferline.evidence.outcome import Outcome
from waferline.workloads.spec import MixtureOfExperts, Transformer

_STATIC_PHASES = ("prefill", "decode", "generate")
_LANGUAGE_METRICS = (
    "ttft_s",
    "tpot_s",
    "latency_s",
    "output_tokens_per_s",
    "total_tokens_per_s",
    "prompt_tokens_per_s",
)


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of row with the errors aimed at; `peer` says what another tool reaches on it."""

    title: str
    picks: Callable[[Outcome], bool]
    median: float
    p90: float | None = None
    peer: str = ""


def has_experts(model: str) -> bool:
    """True for a mixture of experts."""
    spec = model_spec(model)
    return isinstance(spec, Transformer) and any(isinstance(b.ffn, MixtureOfExperts) for b in spec.blocks)


def _enough(o: Outcome) -> bool:
    return o.stated != "incomplete"


def _served(o: Outcome, metric: str) -> bool:
    return o.row.phase == "serve" and o.row.metric == metric and _enough(o)


def _static(o: Outcome) -> bool:
    return o.row.phase in _STATIC_PHASES and o.row.complete and o.row.metric in _LANGUAGE_METRICS


def _known(o: Outcome) -> bool:
    return o.tier in ("calibrated", "transferred")


TARGETS: tuple[Target, ...] = (
    Target(
        "served, TPOT, dense",
        lambda o: _served(o, "tpot_s") and not has_experts(o.row.model),
        0.08,
        0.25,
        "AIConfigurator 12.5 %",
    ),
    Target(
        "served, TPOT, experts",
        lambda o: _served(o, "tpot_s") and has_experts(o.row.model),
        0.12,
        None,
        "AIConfigurator 20.1 %",
    ),
    Target("served, TTFT", lambda o: _served(o, "ttft_s"), 0.25, None, "AIConfigurator 49 %"),
    Target("static batch, complete, calibrated or transferred", lambda o: _static(o) and _known(o), 0.12),
    Target("static batch, complete, spec only", lambda o: _static(o) and not _known(o), 0.20),
    Target(
        "full load, throughput", lambda o: o.row.phase == "serve" and any("run at once" in n for n in o.notes), 0.20
    ),
    Target(
        "training, complete",
        lambda o: o.row.phase == "train" and o.row.complete,
        0.12,
        None,
        "mlsysim −50 % on Llama-3-405B",
    ),
)
