"""How near is near enough, fixed before a study runs, and who fixed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Who set a tolerance. Never the person who has seen the result.
AIM = "aim set beforehand"
SEEN = "set with the result in view"
SOURCE = "the source's own"
PRINTED = "digits printed in the source"

Rule = Literal["relative", "absolute", "at least", "at most", "between"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A rule with its numbers and its origin. `low` and `high` of *relative* are shares, else in the row's unit."""

    rule: Rule
    low: float
    high: float
    origin: str

    def holds(self, published: float | None, computed: float) -> bool:
        """True where `computed` agrees with `published`; ranges need no published value."""
        if self.rule == "at least":
            return computed >= self.low
        if self.rule == "at most":
            return computed <= self.high
        if self.rule == "between":
            return self.low <= computed <= self.high
        if published is None:
            return False
        slack = self.high * abs(published) if self.rule == "relative" else self.high
        return abs(computed - published) <= slack * (1 + 1e-9)

    @property
    def is_range(self) -> bool:
        """True for one-sided bounds and ranges, which need no published value."""
        return self.rule not in ("relative", "absolute")

    @property
    def text(self) -> str:
        if self.rule == "relative":
            return f"±{100 * self.high:.3g} %"
        return _TEXTS[self.rule].format(low=self.low, high=self.high)


_TEXTS = {
    "absolute": "±{high:.3g}",
    "at least": "≥ {low:.4g}",
    "at most": "≤ {high:.4g}",
    "between": "{low:.4g} to {high:.4g}",
}


def relative(share: float, origin: str = AIM) -> Tolerance:
    """Within `share` (0.15 is 15 %) of the published value."""
    return Tolerance("relative", -share, share, origin)


def absolute(slack: float, origin: str = PRINTED) -> Tolerance:
    """Within `slack` of the published value, in its unit."""
    return Tolerance("absolute", -slack, slack, origin)


def printed(text: str) -> Tolerance:
    """Equal to a number in print: within half a unit of its last digit (`"2.36"` is ±0.005)."""
    digits = len(text.partition(".")[2])
    return absolute(0.5 * 10.0**-digits)


EXACT = absolute(0.0, "exact")


def at_least(value: float, origin: str = AIM) -> Tolerance:
    return Tolerance("at least", value, float("inf"), origin)


def at_most(value: float, origin: str = AIM) -> Tolerance:
    return Tolerance("at most", float("-inf"), value, origin)


def between(low: float, high: float, origin: str = AIM) -> Tolerance:
    """In a range that was stated beforehand, ends included."""
    return Tolerance("between", low, high, origin)
