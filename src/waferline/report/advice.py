"""One sentence: what binds an answer, which part of the machine would help most, and which change of the question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from waferline.errors import WaferlineError
from waferline.predict.run import Answer, run
from waferline.predict.scenario import Scenario
from waferline.search.sensitivity import sensitivity

_NARROWER = ("fp8", "int4")  # weights that are tried
_WORTH = 1.05  # a gain below it is not worth a sentence
_BOUND = {
    "memory": "reading weights and cache from memory",
    "compute": "arithmetic",
    "link": "moving data between devices",
    "overhead": "what the host and launches add",
}
_TIMES = {"itl_s": "the time of a token", "latency_s": "the time", "step_time_s": "the time of a step"}


def advice(scenario: Scenario, answer: Answer) -> str:
    """What binds, the part of the machine with the largest elasticity, and the change that alone helps each user most."""
    if not answer.fits:
        ways = " or ".join(f"{r.change} ({r.option})" for r in answer.remedies)
        return f"It does not fit{f'; it would with {ways}' if ways else ''}. Times suppose that it fitted."
    key = next((k for k in ("decode_bottleneck", "bottleneck") if k in answer.result), None)
    bound = str(np.asarray(answer.result[key]).flat[0]) if key else ""
    said = [f"Bound by {_BOUND.get(bound, bound)}.", *_part(scenario, answer)] if bound else [*_part(scenario, answer)]
    now = _speed(answer)
    found = [(change, speed / now) for change, speed in _tried(scenario) if speed > _WORTH * now] if now else []
    if found:
        change, gain = max(found, key=lambda pair: pair[1])
        said.append(f"Most for each user would do {change}: {gain:.2g} times the tokens/s.")
    return " ".join(said)


def _part(scenario: Scenario, answer: Answer) -> Iterator[str]:
    """Where to invest: `sensitivity` of the time that users wait for."""
    try:
        found = sensitivity(scenario, known=answer)
    except WaferlineError:  # a wafer, whose answers come from its mesh
        return
    for field in _TIMES.keys() & found.invest.keys():
        part = found.invest[field]
        moved = -100 * found.elasticities[field][part]
        yield f"10 % better {part} would shorten {_TIMES[field]} by {moved / 10:.1f} %, more than any other part."


def _tried(scenario: Scenario) -> Iterator[tuple[str, float]]:
    changes = [(f"{fmt} weights", replace(scenario, precision=fmt)) for fmt in _NARROWER if scenario.precision is None]
    devices = scenario.devices if isinstance(scenario.devices, int) else 1
    changes.append((f"{2 * devices} devices", replace(scenario, devices=2 * devices)))
    for change, asked in changes:
        try:
            found = run(replace(asked, intervals=False, only="decode"))
        except WaferlineError:  # no such units, no such link
            continue
        if found.fits:
            yield change, _speed(found)


def _speed(answer: Answer) -> float:
    key = "user_tokens_per_s"
    return float(np.asarray(answer.result[key]).flat[0]) if key in answer.result else 0.0
