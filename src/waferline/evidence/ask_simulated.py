"""Rows that one served run made put to the simulator: the run is simulated once, and each row reads its figure."""

from __future__ import annotations

from collections.abc import Sequence

from waferline.errors import InvalidInputError
from waferline.evidence.answer import Answer
from waferline.evidence.request import Request
from waferline.evidence.run import Run
from waferline.evidence.serving_runs import Asked, asked_of, interval, simulated


def ask_simulated(requests: Sequence[Request]) -> list[Answer]:
    """Answers for rows of one run. Raises: any WaferlineError of the simulation, for all of them."""
    asked = asked_of(Run(dict(requests[0].run)))
    assert isinstance(asked, Asked)  # else the rows had been refused
    values, assumed = simulated(asked)
    answers = []
    for request in requests:
        value = values.get(request.answer)
        if value is None:
            raise InvalidInputError(f"a simulated run has no {request.answer}")
        notes = tuple(text for text in assumed if text not in request.assumed)
        answers.append(Answer(value, *interval(request.answer, value), None, "simulated", notes))
    return answers
