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


def own_case(
    study: str, model: Any, machine: Any, mechanism: str | None = None, precision: str | None = None
) -> OwnCase:
    """The mechanism of `study`, or `mechanism` in its stead, on `model` and `machine`.

    Raises: UnknownNameError for a study, InvalidInputError for one whose mechanism is no change of a served model, and as `run`.
    """
    load_study(study)
    known = read_packaged("techniques.yaml")["studies"]
    asked = mechanism or known.get(study)
    if asked is None:
        raise InvalidInputError(
            f"the mechanism of {study} is no change of a served model",
            hint=f"those that are: {', '.join(sorted(known))}",
        )
    if "{" in asked:
        raise InvalidInputError(
            f"{study} needs a model beside yours", hint=f"--with '{asked.replace('{auxiliary}', 'NAME')}'"
        )
    scenario = Scenario(model=model, machine=machine, precision=precision, devices="auto")
    plain = run(scenario)
    devices = int(plain.result["devices"])
    return OwnCase(study, asked, plain, run(replace(scenario, devices=devices, techniques=asked)))
