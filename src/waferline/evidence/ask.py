"""Requests put to the prediction models, as many at once as share their text fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

from waferline.catalog.yaml_file import read_file
from waferline.errors import WaferlineError
from waferline.evidence.answer import Answer, widened
from waferline.evidence.ask_serving import ask_serving
from waferline.evidence.ask_simulated import ask_simulated
from waferline.evidence.ask_single import ask_single
from waferline.evidence.ask_training import ask_training
from waferline.evidence.ask_wafer import ask_wafer
from waferline.evidence.request import SIMULATED, Refusal, Request
from waferline.evidence.together import together

Asker = Callable[[Sequence[Request]], list[Answer]]


def _doors() -> Mapping[str, Callable[..., list[Answer]]]:
    return {
        "serving": ask_serving,
        "training": ask_training,
        "single": ask_single,
        "simulated": ask_simulated,
        "wafer": ask_wafer,
    }


def ask(requests: Sequence[Request], progress: Callable[[int], None] | None = None) -> list[Answer | Refusal]:
    """An answer or a refusal for every request, in order. `progress` is told how many were answered, group by group."""
    out: list[Answer | Refusal | None] = [None] * len(requests)
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(request.group, []).append(index)
    doors = _doors()
    ordered = sorted(groups.items(), key=lambda group: group[0][0] == SIMULATED)
    apart = next((i for i, (key, _) in enumerate(ordered) if key[0] == SIMULATED), len(ordered))
    ask_one = lambda group: _answers([requests[i] for i in group[1]], doors[group[0][0]])  # noqa: E731
    answers = chain(map(ask_one, ordered[:apart]), together(ask_one, ordered[apart:]))
    for (_, members), found in zip(ordered, answers, strict=True):
        for index, answer in zip(members, found, strict=True):
            out[index] = answer if isinstance(answer, Refusal) else widened(answer, _spread(requests[index].guesses))
        if progress is not None:
            progress(len(members))
    return [answer for answer in out if answer is not None]


@cache
def _spread(guesses: tuple[str, ...]) -> float:
    """What kinds of guesses add to the 90 % interval of a prediction, in log."""
    table = read_file(Path(__file__).parent / "data" / "guesses.yaml")["guesses"]
    return math.hypot(*(table[name]["spread"] for name in guesses)) if guesses else 0.0


def _answers(requests: Sequence[Request], door: Asker) -> list[Answer | Refusal]:
    """One call; where some rows of a group cannot be asked, the group is halved until those rows stand alone."""
    try:
        return list(door(requests))
    except WaferlineError as error:
        if len(requests) == 1:
            return [Refusal(error.kind, str(error))]
    cut = _cut(requests)
    return _answers(requests[:cut], door) + _answers(requests[cut:], door) if cut else _by_parallel(requests, door)


def _cut(requests: Sequence[Request]) -> int:
    """Where to halve; 0 where the requests differ in parallel degrees, which fail or pass together."""
    degrees = {(r.tp, r.pp, r.ep, r.dp) for r in requests}
    return len(requests) // 2 if len(degrees) == 1 else 0


def _by_parallel(requests: Sequence[Request], door: Asker) -> list[Answer | Refusal]:
    """Groups of one parallel layout each: a machine without the links fails once, not row by row."""
    layouts: dict[tuple[float, ...], list[int]] = {}
    for index, r in enumerate(requests):
        layouts.setdefault((r.tp, r.pp, r.ep, r.dp), []).append(index)
    out: list[Answer | Refusal | None] = [None] * len(requests)
    for members in layouts.values():
        for index, answer in zip(members, _answers([requests[i] for i in members], door), strict=True):
            out[index] = answer
    return [answer for answer in out if answer is not None]
