"""A study's mechanism on a model and a machine of the user's own: the same scenario with it and, where it can be left out,
without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from waferline.errors import InvalidInputError
from waferline.evidence.studies.registry import load_study
from waferline.predict.run import Answer, run
from waferline.predict.scenario import Scenario


@dataclass(frozen=True, slots=True)
class OwnCase:
    """mechanism: as options would have it; empty where the machine's own model is it. plain, changed: the answers without it
    (None where there is no leaving it out) and with it."""

    study: str
    mechanism: str
    plain: Answer | None
    changed: Answer

    def to_json(self) -> dict[str, Any]:
        plain = {} if self.plain is None else {"without_it": self.plain.to_json()}
        return {"study": self.study, "with": self.mechanism, **plain, "with_it": self.changed.to_json()}


def own_case(study: str, scenario: Scenario) -> OwnCase:
    """The mechanism of `study`, or the scenario's techniques in its stead, on the scenario's model and machine.

    Raises: UnknownNameError for a study, InvalidInputError for one whose mechanism is no change of a model's answer, for a field
    that the mechanism itself sets, and as `run`.
    """
    own = load_study(study).own
    if "why" in own:
        raise InvalidInputError(f"{study} changes no model's answer: {own['why']}")
    changes = dict(own["with"])
    if scenario.techniques is not None:
        asked = scenario.techniques
        changes = {"techniques": asked if isinstance(asked, str) else "+".join(asked)}
        scenario = replace(scenario, techniques=None)
    for name in changes:
        if name != "phase" and getattr(scenario, name) is not None:
            raise InvalidInputError(f"{study} sets {name} itself: {name}={changes[name]}")
    if "{" in (technique := str(changes.get("techniques", ""))):
        raise InvalidInputError(
            f"{study} needs a model beside yours", hint=f"--with '{technique.replace('{auxiliary}', 'NAME')}'"
        )
    plain: Answer | None
    mechanism = technique or ", ".join(f"{name}={value}" for name, value in changes.items())
    if "techniques" in changes:
        plain, scenario = _on_enough(scenario, bool(own.get("spread")))
    else:
        without: Mapping[str, Any] | None = own.get("without", {} if changes.keys() - {"phase"} else None)
        plain = None if without is None else run(replace(scenario, **without))
    return OwnCase(study, mechanism, plain, run(replace(scenario, **changes)))


def _on_enough(scenario: Scenario, spread: bool) -> tuple[Answer, Scenario]:
    """The answer on as many devices as the model needs where nobody says how many, and the scenario on those; `spread` puts
    experts on devices of their own."""
    stated = (scenario.devices, scenario.tp, scenario.pp, scenario.ep, scenario.dp)
    if any(x is not None for x in stated):
        return run(scenario), scenario
    plain = run(replace(scenario, devices="auto"))
    devices = int(plain.result["devices"])
    if not spread:
        return plain, replace(scenario, devices=devices)
    ranks = max(devices, 2)
    scenario = replace(scenario, tp=ranks, ep=ranks)
    return run(scenario), scenario
