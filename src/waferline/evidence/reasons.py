"""The likely reason why a prediction is far from a published value: from what the row says, not from the error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from waferline.evidence.outcome import Outcome

_LONG_CONTEXT = 16384


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason and when it applies; the first that applies is told."""

    text: str
    applies: Callable[[Outcome], bool]


def _predicted_fast(o: Outcome) -> bool:
    return o.slower < 0


REASONS: tuple[Reason, ...] = (
    Reason(
        "memory is thought too small: requests queue or the model swaps", lambda o: any("fit" in n for n in o.notes)
    ),
    Reason("memory holds fewer sequences than clients: queueing", lambda o: any("memory holds" in n for n in o.notes)),
    Reason("the engine is one that waferline has no profile of", lambda o: any("engine" in a for a in o.assumed)),
    Reason("the variant of the machine is not stated", lambda o: any("does not say which" in a for a in o.assumed)),
    Reason("lengths are only approximately stated", lambda o: any("tokens (" in a or "length" in a for a in o.assumed)),
    Reason(
        "all requests at once: TTFT is made by the client's burst",
        lambda o: o.row.phase == "serve" and o.row.metric == "ttft_s",
    ),
    Reason("the batch that the scheduler chose is not stated", lambda o: any("run at once" in n for n in o.notes)),
    Reason("devices in one pipeline: micro-batches are not stated", lambda o: (o.row.pp or 1) > 1),
    Reason("experts: routing balance and kernel of the release", lambda o: (o.row.ep or 1) > 1),
    Reason(
        "first release of the engine for this machine",
        lambda o: _predicted_fast(o) and "0.5" in o.row.engine_version[:4],
    ),
    Reason("kernels of this machine were never measured", lambda o: o.tier == "spec only"),
    Reason(
        "a community submission: build, clocks and settings vary", lambda o: o.row.engine in ("llama.cpp", "Ollama")
    ),
    Reason("long context", lambda o: (o.row.input_tokens or 0) >= _LONG_CONTEXT),
)


def likely_reason(outcome: Outcome) -> str:
    """One line; empty when nothing in the row points to a reason."""
    return next((r.text for r in REASONS if r.applies(outcome)), "")
