"""A study's mechanism on a model and a machine of the user's own: the same scenario with it and without it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import InvalidInputError
from waferline.evidence.studies.registry import load_study
from waferline.predict.run import Answer, run
from waferline.predict.scenario import Scenario


@dataclass(frozen=True, slots=True)
class OwnCase:
    """mechanism: as `--with` would have it. plain, changed: the answers without it and with it."""

    study: str
    mechanism: str
    plain: Answer
    changed: Answer

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "with": self.mechanism,
            "without_it": self.plain.to_json(),
            "with_it": self.changed.to_json(),
        }


def own_case(study: str, scenario: Scenario) -> OwnCase:
    """The mechanism of `study`, or the scenario's techniques in its stead, on the scenario's model and machine.

    Raises: UnknownNameError for a study, InvalidInputError for one whose mechanism is no change of a served model, and as `run`.
    """
    load_study(study)
    known = read_packaged("techniques.yaml")["studies"]
    own = (scenario.techniques,) if isinstance(scenario.techniques, str) else scenario.techniques or ()
    asked = "+".join(own) or known.get(study)
    if asked is None:
        raise InvalidInputError(
            f"the mechanism of {study} is no change of a served model",
            hint=f"those that are: {', '.join(sorted(known))}",
        )
    if "{" in asked:
        raise InvalidInputError(
            f"{study} needs a model beside yours", hint=f"--with '{asked.replace('{auxiliary}', 'NAME')}'"
        )
    stated = (scenario.devices, scenario.tp, scenario.pp, scenario.ep, scenario.dp)
    devices = "auto" if all(x is None for x in stated) else scenario.devices
    scenario = replace(scenario, techniques=None, devices=devices)
    plain = run(scenario)
    if devices == "auto":
        scenario = replace(scenario, devices=int(plain.result["devices"]))
    if devices == "auto" and study in read_packaged("techniques.yaml")["spread"]:
        ranks = max(scenario.devices, 2)
        scenario = replace(scenario, devices=None, tp=ranks, ep=ranks)
        plain = run(scenario)
    return OwnCase(study, asked, plain, run(replace(scenario, techniques=asked)))
