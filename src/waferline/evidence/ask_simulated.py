"""Rows that one served run made put to the simulator: the run is simulated once, and each row reads its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError
from waferline.evidence.answer import Answer
from waferline.evidence.request import Request
from waferline.evidence.run import Run
from waferline.evidence.serving_runs import Asked, asked_of, interval, simulated
from waferline.predict.engine import get_engine


def ask_simulated(requests: Sequence[Request]) -> list[Answer]:
    """Answers for rows of one run. Raises: any WaferlineError of the simulation, for all of them."""
    asked = asked_of(Run(dict(requests[0].run)))
    assert isinstance(asked, Asked)  # else the rows had been refused
    values, assumed = simulated(asked)
    others = _on_other_hosts(asked)
    answers = []
    for request in requests:
        value = values.get(request.answer)
        if value is None:
            raise InvalidInputError(f"a simulated run has no {request.answer}")
        low, high = interval(request.answer, value)
        told = [other[request.answer] for other in others]
        ends = min((low, *told)) / request.either_way, max((high, *told)) * request.either_way
        notes = tuple(text for text in assumed if text not in request.assumed)
        answers.append(Answer(value, *ends, None, "simulated", notes))
    return answers


def _on_other_hosts(asked: Asked) -> list[Mapping[str, Any]]:
    """The figures of an open load where every step takes as much less, or more, as the engine's own steps were off.

    Steps that take k times as long serve a rate of r as those of before serve k r, in k times the time: a queue near what the
    server can do feels it far more than a step does.
    """
    rate = asked.traffic.rate_per_s
    if rate is None:
        return []
    engine = get_engine(str(asked.scenario.engine)).running_on(asked.scenario.machine)
    errors = engine.residual.get("decode", (0.0,))
    found: list[Mapping[str, Any]] = []
    for k in np.exp([errors[0], errors[-1]]):
        times = simulated(replace(asked, traffic=replace(asked.traffic, rate_per_s=rate * k)))[0]
        found.append({n: v / k if n.endswith("_per_s") else v * k for n, v in times.items() if isinstance(v, float)})
    return found
