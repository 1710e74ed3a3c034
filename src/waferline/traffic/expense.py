"""What a simulated run draws and costs: power of the two kinds of work while they were done, and of machines that wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from waferline.machines.device import Device
from waferline.predict.power import idle_power_w
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.simulate.serving.state import BUSY_S, DECODES, PROMPT_TOKENS, RUNNING_S, STEPS, UP_S, Requests
from waferline.traffic.server import FleetRun
from waferline.units import SECONDS_PER_HOUR


def expenses(ran: FleetRun, requests: Requests, asked: Scenario, device: Device, devices: int) -> dict[str, float]:
    """Energy and cost of the devices (`devices` of all replicas), in all and by request and token; nothing that is not known.

    Decode power is that of the mean batch, prefill power that of the mean prompt, shared by the tokens of both that the steps
    carried; a device that is up and has no step draws its idle power.
    """
    found: dict[str, float] = {}
    sums = ran.fleet.sums.sum(axis=0)
    each = devices / ran.fleet.active.size
    up_s, busy_s = float(sums[UP_S]), float(min(sums[BUSY_S], sums[UP_S]))
    tokens = float(requests.output.sum())
    if device.hourly_usd is not None:
        cost = device.hourly_usd * each * up_s / SECONDS_PER_HOUR
        found |= {"cost_usd_per_request": cost / requests.output.size, "cost_usd_per_mtok": cost / tokens * 1e6}
    power = _powers(ran, requests, asked, device)
    if power is None or not sums[STEPS]:
        return found
    prefill_w, decode_w, idle_w = power
    reads = float(sums[PROMPT_TOKENS] / max(sums[PROMPT_TOKENS] + sums[DECODES], 1.0))
    energy = each * (busy_s * (reads * prefill_w + (1.0 - reads) * decode_w) + (up_s - busy_s) * idle_w)
    return found | {
        "power_w": energy / max(up_s, 1e-12) * ran.fleet.active.size,
        "energy_j_per_request": energy / requests.output.size,
        "energy_j_per_output_token": energy / tokens,
    }


def _powers(ran: FleetRun, requests: Requests, scenario: Scenario, device: Device) -> tuple[float, float, float] | None:
    """Watts of one device that reads prompts, that generates, and that waits; None where its limit is not known."""
    sums = ran.fleet.sums.sum(axis=0)
    idle = idle_power_w(device)
    if idle is None or device.tdp_w is None:
        return None
    asked: Any = replace(
        scenario,
        batch=max(round(float(sums[RUNNING_S] / max(sums[BUSY_S], 1e-12))), 1),
        prompt=max(round(float(np.mean(requests.prompt))), 1),
        output=max(round(float(np.mean(requests.output))), 1),
    )
    result = run(asked).result
    spread = float(result["devices"])
    return float(result["prefill_power_w"]) / spread, float(result["decode_power_w"]) / spread, idle
