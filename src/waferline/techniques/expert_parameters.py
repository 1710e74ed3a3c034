"""Do a mixture's printed figures belong together? Its experts alone cannot outweigh it, nor be a trifle of it.

Source of the idea and of the table it is tried on: survey on inference optimisation for mixtures of experts,
arXiv:2412.14219, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Finding = Literal["sound", "experts on some layers only", "figures of different models"]

_MATRICES = 3.0  # gate, up, down
_LEAST_SHARE = 0.5  # of all parameters in experts: below it, the figures are of a smaller model than the count
_ROUNDED = 1.005  # printed counts round
_EVERY_SECOND = 2.0  # experts on every second layer halve the experts; beyond it no usual layout explains the figures


@dataclass(frozen=True, slots=True)
class Printed:
    """A row of a model table."""

    model: str
    parameters: float
    experts: float
    shared: float
    layers: float
    hidden: float
    expert_width: float

    @property
    def expert_parameters(self) -> float:
        """Parameters of all experts if every layer had them."""
        return (self.experts + self.shared) * self.layers * _MATRICES * self.hidden * self.expert_width

    @property
    def share(self) -> float:
        """Those over the printed count."""
        return self.expert_parameters / self.parameters


def lint(row: Printed) -> Finding:
    """What the share of the experts says about a row."""
    if _LEAST_SHARE <= row.share <= _ROUNDED:
        return "sound"
    if _ROUNDED < row.share <= _EVERY_SECOND:
        return "experts on some layers only"
    return "figures of different models"


def expected_distinct(experts: float, chosen: float, tokens: float) -> float:
    """Experts that at least one of `tokens` tokens takes, when every choice is equally likely."""
    return experts * (1.0 - (1.0 - chosen / experts) ** tokens)
