"""`sensitivity`: by how many per cent an answer moves when one part of the machine is a per cent faster. Where to invest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError
from waferline.machines.hardware import load_hardware
from waferline.predict.run import Answer, run
from waferline.predict.scenario import Scenario
from waferline.search.hardware_change import PARTS, scaled
from waferline.workloads.load import load_model

HOST = "host and latencies"
_STEP = 0.05  # of a part, up and down
_FIELDS = ("ttft_s", "itl_s", "cost_usd_per_mtoken", "latency_s", "step_time_s")
_FULL = "full_throughput_tokens_per_s"  # of a queue that never empties: what memory holds counts


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Elasticities by field and part: d log(field) / d log(part). values: the fields as they are.

    Times are homogeneous in all speeds together, so what flops, bandwidth and links leave of -1 is the host's and of latencies.
    """

    model: str
    machine: str
    values: Mapping[str, float]
    elasticities: Mapping[str, Mapping[str, float]]

    @property
    def invest(self) -> Mapping[str, str]:
        """By field, the part whose improvement helps most."""
        gain = {f: {p: abs(e) for p, e in row.items()} for f, row in self.elasticities.items()}
        return {field: max(row, key=lambda p: row[p]) for field, row in gain.items()}

    def to_json(self) -> dict[str, Any]:
        return {
            "how": "predicted", "model": self.model, "machine": self.machine, "values": self.values,
            "elasticities": self.elasticities, "invest": self.invest,
        }  # fmt: skip


def sensitivity(scenario: Scenario, *, known: Answer | None = None) -> Sensitivity:
    """Elasticities of times, cost and full throughput to every part of the machine.

    known: the answer itself, for a quick look: at decode times alone, from one side, without what memory holds. Raises: as
    `run`; InvalidInputError for a machine whose answers do not come from such parts.
    """
    spec = load_model(scenario.model, input_shape=scenario.input_shape, assume=scenario.assume)
    device = load_hardware(scenario.machine)
    quick = known is not None
    asked = replace(scenario, model=spec, machine=device, input_shape=None, assume=None, intervals=False)
    asked = replace(asked, only="decode" if quick else "")
    answer = known or run(asked)
    now = _fields(asked, answer, quick)
    if answer.kind in ("wafer-resident", "weight-streaming"):
        raise InvalidInputError(f"{device.name} is a wafer: its answers come from its mesh", hint="sweep its grids")
    rows: dict[str, dict[str, float]] = {name: {} for name in now}
    low = 1.0 if quick else 1 - _STEP
    width = np.log((1 + _STEP) / low)
    for part in PARTS:
        if (part == "links" and not device.links) or (part == "capacity" and quick):
            continue
        changed = (
            replace(asked, machine=scaled(device, part, factor))
            for factor in ((1 + _STEP,) if quick else (1 + _STEP, low))
        )
        up, down = (*(_fields(one, run(one), quick) for one in changed), now)[:2]
        for name in now:
            moved = name in up and name in down and up[name] > 0.0 < down[name]
            rows[name][part] = float(np.log(up[name] / down[name]) / width) if moved else float("nan")
    for name, row in rows.items():
        whole = 1.0 if name == _FULL else -1.0
        row[HOST] = whole - sum(row.get(p, 0.0) for p in ("flops", "bandwidth", "links"))
    return Sensitivity(spec.name, device.name, now, rows)


def _fields(asked: Scenario, answer: Answer, quick: bool) -> dict[str, float]:
    found = {name: float(answer.result[name]) for name in _FIELDS if name in answer.result}
    if not quick and answer.kind == "serve" and asked.load is None:
        queue = run(replace(asked, load="full")).result
        found[_FULL] = float(queue["loaded_throughput_tokens_per_s"])
    return found
