"""What techniques ask of a simulated server: options of its scheduler, of what stands around replicas, and of prompts."""

from __future__ import annotations

from dataclasses import replace

from waferline.errors import InvalidInputError
from waferline.predict.run import with_offload
from waferline.predict.scenario import Scenario
from waferline.predict.techniques import applied
from waferline.traffic.options import ServerOptions


def with_techniques(scenario: Scenario, options: ServerOptions | None) -> tuple[Scenario, ServerOptions]:
    """The scenario with its offload where it belongs, and checked options as its techniques set them.

    Raises: InvalidInputError for what is said twice, UnknownNameError.
    """
    scenario, options = with_offload(scenario), (options or ServerOptions())
    for one in applied(scenario.techniques):
        asked = one.technique.server(one.given) if one.technique.server else {}
        for name, value in asked.items():
            said = getattr(options, name)
            if said is None or said == getattr(ServerOptions(), name):
                options = replace(options, **{name: value})
            elif value is not None and name != "prefill_replicas":  # a number of them that is given is more than one
                raise InvalidInputError(f"{one.name} and {name} {said} say the same twice")
    if options.hit and options.prefix_caching is False:
        raise InvalidInputError("prefix-cache would not be read: prefix_caching is off")
    return scenario, options.checked()
