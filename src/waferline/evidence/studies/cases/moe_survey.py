"""The survey on mixture-of-experts inference: are its printed models consistent, and does our catalogue agree?

Do a mixture's printed figures belong together? Its experts alone cannot outweigh it, nor be a trifle of it.

Source of the idea and of the table it is tried on: survey on inference optimisation for mixtures of experts,
arXiv:2412.14219, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from waferline.evidence.studies.facts import Facts, fact_rows
from waferline.evidence.studies.study import Check, identity, own
from waferline.evidence.studies.tolerance import AIM, absolute, relative
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model

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


_CATALOGUE = {"mixtral-8x7b": 46.7, "mixtral-8x22b": 141.0, "dbrx": 132.0, "qwen2-57b-a14b": 57.4}
_PARAMETERS = 0.01
_BILLION = 1e9
_SOUND_ROWS = 22
# Rows known beforehand to be at odds with themselves.
_WRONG = ("skywork-moe", "llama-moe", "openmoe")
_INTERLEAVED = ("jamba", "llama-4-maverick", "deepseek-v3", "deepseek-r1", "ernie-4.5")


def compute(facts: Facts) -> Iterator[Check]:
    for name, printed in _CATALOGUE.items():
        total = parameter_count(load_model(name)).total / _BILLION
        yield identity(f"parameters of {name}", "B", printed, total, relative(_PARAMETERS))
    rows = list(_rows())
    found = {row.model: lint(row) for row in rows}
    sound = sum(f == "sound" for f in found.values())
    yield own(f"sound rows of {len(rows)}", "rows", _SOUND_ROWS, sound, absolute(0.0, AIM))
    for models, finding in ((_WRONG, "figures of different models"), (_INTERLEAVED, "experts on some layers only")):
        for model in models:
            said = float(found[model] == finding)
            yield own(f"{model} flagged: {finding}", "", 1.0, said, absolute(0.0, AIM))
    why = "no common machine, batch or length is given for any of them"
    yield Check("speed-ups of the surveyed systems", "×", None, None, why=why)


def _rows() -> Iterator[Printed]:

    for row in fact_rows("moe-survey"):
        if row["expert_width"]:
            sizes = [float(row[k]) for k in ("experts", "shared", "layers", "hidden", "expert_width")]
            yield Printed(row["model"], float(row["parameters_b"]) * _BILLION, *sizes)
