"""The survey on mixture-of-experts inference: are its printed models consistent, and does our catalogue agree?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import AIM, absolute, relative

if TYPE_CHECKING:
    from waferline.techniques.expert_parameters import Printed

_CATALOGUE = {"mixtral-8x7b": 46.7, "mixtral-8x22b": 141.0, "dbrx": 132.0, "qwen2-57b-a14b": 57.4}
_PARAMETERS = 0.01
_BILLION = 1e9
_SOUND_ROWS = 22
# Rows known beforehand to be at odds with themselves.
_WRONG = ("skywork-moe", "llama-moe", "openmoe")
_INTERLEAVED = ("jamba", "llama-4-maverick", "deepseek-v3", "deepseek-r1", "ernie-4.5")


def compute() -> Iterator[Check]:
    from waferline.techniques.expert_parameters import lint
    from waferline.workloads.counts import parameter_count
    from waferline.workloads.load import load_model

    for name, printed in _CATALOGUE.items():
        total = parameter_count(load_model(name)).total / _BILLION
        yield Check(f"parameters of {name}", "B", printed, total, relative(_PARAMETERS))
    rows = list(_rows())
    found = {row.model: lint(row) for row in rows}
    sound = sum(f == "sound" for f in found.values())
    yield Check(f"sound rows of {len(rows)}", "rows", _SOUND_ROWS, sound, absolute(0.0, AIM))
    for models, finding in ((_WRONG, "figures of different models"), (_INTERLEAVED, "experts on some layers only")):
        for model in models:
            said = float(found[model] == finding)
            yield Check(f"{model} flagged: {finding}", "", 1.0, said, absolute(0.0, AIM))
    why = "no common machine, batch or length is given for any of them"
    yield Check("speed-ups of the surveyed systems", "×", None, None, why=why)


def _rows() -> Iterator[Printed]:
    from waferline.evidence.studies.facts import fact_rows
    from waferline.techniques.expert_parameters import Printed

    for row in fact_rows("moe-survey"):
        if row["expert_width"]:
            sizes = [float(row[k]) for k in ("experts", "shared", "layers", "hidden", "expert_width")]
            yield Printed(row["model"], float(row["parameters_b"]) * _BILLION, *sizes)


STUDY = Study(
    name="moe-survey",
    title="A survey on inference optimisation for mixtures of experts",
    source=Source("https://arxiv.org/abs/2412.14219", "2024-12-18"),
    claim="a table of 31 mixtures with their sizes",
    configuration={"check": "experts × layers × three matrices against the printed count"},
    compute=compute,
    note="Skywork-MoE is printed with 13 B parameters, which its configuration exceeds eleven times",
)
