"""Guaranteed Guess: what running foreign code costs, and no timing before the result is right.

How a program is made to run on a machine it was not built for, as a multiplier of time and energy with its source.

native: compiled for the machine. transpiled: its assembly rewritten ahead of time. translated: its instructions
rewritten while it runs. soft-float: the machine has no floating point, so each operation is a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity, own
from waferline.evidence.studies.tolerance import EXACT, at_least, printed
from waferline.measure.contract import Check as ResultCheck
from waferline.measure.contract import Measurement, Refusal
from waferline.measure.engine import Plan, measure
from waferline.predict.techniques.schedule import execution_times

_WHY_RATIO = "the text cuts the ratio of its own table after two decimals instead of rounding it"
_WHY_TRANSLATOR = "the translator is a language model and is not built here"
_RIGHT, _WRONG = 1.0, 1.01


def compute(data: Facts) -> Iterator[Check]:
    table = data["modes"]
    for ratio in data["ratios"]:
        value = table["translated"][ratio["key"]] / table["transpiled"][ratio["key"]]
        name = f"translated over transpiled, {ratio['name']}"
        yield identity(name, "×", float(ratio["published"]), value, printed(ratio["published"]), why=_WHY_RATIO)
    for mode in table:
        yield Check(f"{mode}: time over native", "×", None, execution_times(mode), at_least(1.0, "native is fastest"))
    yield from _power(data)
    yield from _gate()
    accuracy = data["accuracy_o2"]
    yield Check("programs right at -O2", accuracy["unit"], accuracy["published"], None, None, why=_WHY_TRANSLATOR)


def _power(data: Facts) -> Iterator[Check]:
    entry = data["modes"]["translated"]
    watts, most = entry["energy_j"] / entry["time_s"], data["most_power_w"]
    limit = at_least(most, "most that the machine draws")
    yield Check("energy over time, impossible for one run: ratios only", "W", None, watts, limit)


def _gate() -> Iterator[Check]:
    """Our own rule for kernels, from the same idea: a candidate is checked before it is timed."""

    x = np.linspace(1.0, 2.0, 256)
    calls = {_RIGHT: 0, _WRONG: 0}

    def candidate(factor: float) -> Any:
        def run() -> Any:
            calls[factor] += 1
            return factor * np.sqrt(x)

        return run

    def check(result: Any) -> ResultCheck:
        return ResultCheck("numpy square root", float(np.abs(result - np.sqrt(x)).max()), 1e-12)

    plan = Plan(least_s=0.0)
    right, wrong = (measure(candidate(f), name="sqrt", check=check, plan=plan) for f in (_RIGHT, _WRONG))
    yield own("a right kernel is timed", "of 1", 1, int(isinstance(right, Measurement)), EXACT, how="measured")
    refused = isinstance(wrong, Refusal) and wrong.reason == "wrong-result"
    yield own("a wrong kernel is refused", "of 1", 1, int(refused), EXACT, how="measured")
    timed = calls[_WRONG] - plan.warmups
    yield own("calls of the wrong kernel that were timed", "calls", 0, timed, EXACT, how="measured")
