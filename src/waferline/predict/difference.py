"""`explain(a, b)`: where two answers differ, operator by operator and roof by roof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from waferline.errors import InvalidInputError
from waferline.predict.explain import ENGINE, Explained, phase_total_s
from waferline.predict.operator_row import OperatorRow


@dataclass(frozen=True, slots=True)
class Difference:
    """One operator of two answers. Seconds of all its executions in one pass of `phase`; `ratio` is the first over the
    second, NaN where the second has no such operator. bound: what binds it in either, empty where it is not."""

    phase: str
    operator: str
    first_s: float
    second_s: float
    first_bound: str
    second_bound: str

    @property
    def difference_s(self) -> float:
        """How much longer the first takes."""
        return self.first_s - self.second_s

    @property
    def ratio(self) -> float:
        return self.first_s / self.second_s if self.second_s else float("nan")


def explain(first: Explained, second: Explained) -> list[Difference]:
    """The operators of two answers side by side, those that differ most first within each phase; then what the engine adds.

    The differences of a phase add up to the difference of its times. Operators are matched by name, as kinds of models have
    them alike. Raises: InvalidInputError for answers of many scenarios, or with no phase in common.
    """
    pairs = (_by_phase(first), _by_phase(second))
    shared = [phase for phase in pairs[0] if phase in pairs[1]]
    if not shared:
        raise InvalidInputError(
            "the two answers have no phase in common to explain",
            hint="ask both for the same phase, and for one scenario each",
        )
    found: list[Difference] = []
    for phase in shared:
        rows = list(_of_phase(phase, *(p[phase] for p in pairs)))
        a, b = (_added_s(answer, phase, of[phase]) for answer, of in zip((first, second), pairs, strict=True))
        found += sorted(rows, key=lambda d: -abs(d.difference_s))
        found.append(Difference(phase, ENGINE, a, b, "overhead", "overhead"))
    return found


def _of_phase(phase: str, first: list[OperatorRow], second: list[OperatorRow]) -> Iterator[Difference]:
    a, b = ({name: [r for r in rows if r.name == name] for name in {r.name for r in rows}} for rows in (first, second))
    for name in dict.fromkeys([*a, *b]):
        mine, other = a.get(name, []), b.get(name, [])
        yield Difference(phase, name, sum(map(_seconds, mine)), sum(map(_seconds, other)), _bound(mine), _bound(other))


def _added_s(answer: Explained, phase: str, rows: list[OperatorRow]) -> float:
    """What the engine adds to the operators of a phase."""
    return phase_total_s(answer, phase, rows) - sum(map(_seconds, rows))


def _by_phase(answer: Explained) -> dict[str, list[OperatorRow]]:
    found: dict[str, list[OperatorRow]] = {}
    for row in answer.operators:
        found.setdefault(row.phase, []).append(row)
    return found


def _seconds(row: OperatorRow) -> float:
    return float(np.asarray(row.time_s).flat[0])


def _bound(rows: list[OperatorRow]) -> str:
    return str(np.asarray(max(rows, key=_seconds).bound).flat[0]) if rows else ""
