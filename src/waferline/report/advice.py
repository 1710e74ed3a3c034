"""One sentence: what binds an answer, and which single change would help it most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from waferline.errors import WaferlineError
from waferline.predict.scenario import Answer, Scenario, run

_NARROWER = ("fp8", "int4")  # weights that are tried
_WORTH = 1.05  # a gain below it is not worth a sentence
_BOUND = {
    "memory": "reading weights and cache from memory",
    "compute": "arithmetic",
    "link": "moving data between devices",
    "overhead": "what the host and launches add",
}


def advice(scenario: Scenario, answer: Answer) -> str:
    """What binds decoding and what, changed alone, speeds it up most; each change is a prediction of its own."""
    key = next((k for k in ("decode_bottleneck", "bottleneck") if k in answer.result), None)
    bound = str(np.asarray(answer.result[key]).flat[0]) if key else ""
    said = f"Bound by {_BOUND.get(bound, bound)}." if bound else ""
    if not answer.fits:
        ways = " or ".join(f"{r.change} ({r.option})" for r in answer.remedies)
        return f"It does not fit{f'; it would with {ways}' if ways else ''}."
    now = _speed(answer)
    found = [(change, speed / now) for change, speed in _tried(scenario) if speed > _WORTH * now] if now else []
    if not found:
        return f"{said} No single change that was tried speeds up each user much."
    change, gain = max(found, key=lambda pair: pair[1])
    return f"{said} Most for each user would do {change}: {gain:.2g} times the tokens/s."


def _tried(scenario: Scenario) -> Iterator[tuple[str, float]]:
    changes = [(f"{fmt} weights", replace(scenario, precision=fmt)) for fmt in _NARROWER if scenario.precision is None]
    devices = scenario.devices if isinstance(scenario.devices, int) else 1
    changes.append((f"{2 * devices} devices", replace(scenario, devices=2 * devices)))
    if isinstance(scenario.batch, int) and scenario.batch > 1:
        changes.append((f"half the batch ({scenario.batch // 2})", replace(scenario, batch=scenario.batch // 2)))
    for change, asked in changes:
        try:
            found = run(replace(asked, intervals=False))
        except WaferlineError:  # no such units, no such link
            continue
        if found.fits:
            yield change, _speed(found)


def _speed(answer: Answer) -> float:
    key = "user_tokens_per_s"
    return float(np.asarray(answer.result[key]).flat[0]) if key in answer.result else 0.0
