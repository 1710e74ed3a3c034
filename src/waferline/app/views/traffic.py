"""A served model under traffic, request by request."""

from __future__ import annotations

from collections.abc import Mapping

from waferline.app.page import Page
from waferline.app.question import (
    DEVICES,
    MACHINE,
    MODEL,
    PRECISION,
    Control,
    command,
    count,
    model_named,
    scenario_of,
    spelled,
)
from waferline.errors import InvalidInputError
from waferline.machines.hardware import resolve_hardware
from waferline.report.charts.plan import plan_chart
from waferline.report.charts.serving import serving_chart
from waferline.report.plan import plan_report
from waferline.report.serving import serving_report
from waferline.simulate.serving.traffic import Traffic
from waferline.traffic.planning.plan import Plan, plan
from waferline.traffic.serve import ServerOptions, simulate_serving
from waferline.workloads.spec import ModelSpec

MOST_REQUESTS, MOST_MACHINES = 5000, 3  # that a page waits for
CONTROLS = (
    MODEL,
    MACHINE,
    PRECISION,
    DEVICES,
    Control("rate", "Requests per second", "text", "8", option="--rate"),
    Control("requests", "Requests", "count", "1000", option="--requests"),
    Control("prompt", "Prompt tokens", "text", "1024", option="--prompt", hint="or lognormal:1024,cv=1"),
    Control("output", "Output tokens", "text", "256", option="--output"),
    Control("slo", "Goals", "text", "ttft=500ms,tpot=30ms", option="--slo"),
    Control(
        "among",
        "Rank deployments among",
        "text",
        more=True,
        hint="h100,l40s (takes a while)",
    ),
    Control("seed", "Seed", "count", "1", option="--seed", more=True),
)
_SCENARIO = ("model", "on", "precision", "devices")


def answer(values: Mapping[str, str], _: ModelSpec | None) -> Page:
    """The simulated run. Raises: as `simulate_serving`."""
    requests = count("requests", values["requests"]) or 1000
    if requests > MOST_REQUESTS:
        raise InvalidInputError(f"a page simulates at most {MOST_REQUESTS} requests", hint="waferline simulate serving")
    traffic = Traffic(rate_per_s=_rate(values["rate"]), requests=requests, prompt=values["prompt"] or "1024",
                      output=values["output"] or "256", seed=count("seed", values["seed"]) or 0)  # fmt: skip
    scenario = scenario_of({name: values[name] for name in _SCENARIO})
    outcome = simulate_serving(scenario, traffic, ServerOptions(slo=values["slo"] or None))
    ranked = _deployments(values, traffic)
    met = outcome.values.get("slo_met", {})
    said = "".join(f" {_spoken(name)} is {'met' if ok else 'missed'}." for name, ok in met.items())
    return Page(
        sentence=f"The server is {outcome.verdict}.{said}",
        charts=(serving_chart(outcome), *map(plan_chart, ranked)),
        blocks=(*serving_report(outcome), *(block for found in ranked for block in plan_report(found))),
        cli=command("simulate serving", values, CONTROLS),
        python=_python(values),
        data=outcome if not ranked else {"simulated": outcome, "ranked": ranked},
        alarm=not all(met.values()),
    )


def _python(values: Mapping[str, str]) -> str:
    scenario = spelled("wl.Scenario", {name: values[name] for name in _SCENARIO}, CONTROLS, on="machine")
    load = {**values, "rate": "", "seed": values["seed"] or "0"}
    traffic = spelled("wl.Traffic", load, [c for c in CONTROLS if c.name in ("requests", "prompt", "output", "seed")])
    goals = f", wl.ServerOptions(slo={values['slo']!r})" if values["slo"] else ""
    return (
        f"import waferline as wl\n\ntraffic = {traffic[:-1]}, rate_per_s={_rate(values['rate'])})\n"
        f"outcome = wl.simulate_serving({scenario}, traffic{goals})"
    )


def _deployments(values: Mapping[str, str], traffic: Traffic) -> list[Plan]:
    """What `waferline plan` would choose for this traffic; empty where no machines are named."""
    machines = [resolve_hardware(name.strip()) for name in values["among"].split(",") if name.strip()]
    if len(machines) > MOST_MACHINES:
        raise InvalidInputError(f"a page ranks at most {MOST_MACHINES} machines", hint="waferline plan")
    model, precisions = model_named(values["model"]), [values["precision"] or None]
    if not machines:
        return []
    return [plan(model, machines=machines, traffic=traffic, slo=values["slo"], precisions=precisions)]


def _spoken(goal: str) -> str:
    """`p99-ttft` as people write it."""
    return " ".join(part.upper() if part in ("ttft", "tpot", "itl", "e2e") else part for part in goal.split("-"))


def _rate(text: str) -> float:
    try:
        rate = float(text.removesuffix("/s"))
    except ValueError:
        rate = 0.0
    if not 0.0 < rate < 1e6:
        raise InvalidInputError(f"requests per second are a number above 0, not '{text}'")
    return rate
