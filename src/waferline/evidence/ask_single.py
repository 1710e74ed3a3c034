"""Groups of one-pass rows put to the door of every face, `predict.scenario.run`: encoders and convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.evidence.answer import VARIANTS, Answer, answers, single
from waferline.evidence.metrics import ENERGY
from waferline.evidence.names import model_spec
from waferline.evidence.request import Request
from waferline.predict.power import energy_quantiles, idle_power_w
from waferline.predict.result import Result
from waferline.predict.run import run
from waferline.predict.scenario import Scenario, reads
from waferline.workloads.streams import StreamNet

_KEYS = {"value": "latency_s", "low90": "latency_low90_s", "high90": "latency_high90_s", "light": "light_latency_s"}


def ask_single(requests: Sequence[Request]) -> list[Answer]:
    """Answers for one-pass requests of one group; devices beyond one work on samples of their own.

    Raises: any WaferlineError of the model, for the whole group.
    """
    first = requests[0]
    batch = np.array([r.batch for r in requests])
    devices = np.array([r.dp for r in requests])
    tokens = np.array([r.input_tokens for r in requests])
    model = model_spec(first.model)
    trains = first.variant == "train"  # whose replicas share a batch
    diffuses = isinstance(model, StreamNet) and bool(model.steps)  # whose rows devices share
    whole = diffuses or trains
    scenario = Scenario(
        model=model,
        machine=first.machine,
        phase=first.variant,
        batch=single(np.ceil(batch if whole else batch / devices)),
        devices=(int(devices[0]) if len(set(devices)) == 1 else devices) if whole else None,
        prompt=single(tokens),
        precision=first.precision,
        engine=first.engine,
        steps=first.steps or None,
        image_size=first.image_size or None,
    )
    unread: dict[str, Any] = {name: None for name in ("prompt", "steps", "image_size") if name not in reads(scenario)}
    result = run(replace(scenario, **unread)).result
    # Of devices that share a sample of another network each has a part.
    together = np.ones(batch.shape) if whole else np.minimum(1.0, batch / devices)
    is_time = np.array([r.answer == "latency_s" for r in requests])
    inputs = np.array([r.inputs or r.batch for r in requests])
    counted = np.where([r.answer == "passes_per_s" for r in requests], 1.0, inputs)  # what a rate counts in one pass
    passes = np.array([r.passes for r in requests])
    values = {}
    for variant in VARIANTS:
        seconds = np.broadcast_to(result[_KEYS[variant]], batch.shape) * together
        values[variant] = np.where(is_time, seconds * passes, counted / seconds)
    if any(r.answer == ENERGY for r in requests):
        _with_energy(values, result, requests)
    tiers = np.broadcast_to(result["tier"], batch.shape).tolist()
    return answers(values, tiers, [()] * len(requests))


def _with_energy(values: dict[str, FloatArray], result: Result, requests: Sequence[Request]) -> None:
    """Joules of a sample where they were asked for; a pass at light speed draws what the machine does when it waits."""
    device, asked = requests[0].machine, np.array([r.answer == ENERGY for r in requests])
    expected = np.broadcast_to(result[ENERGY], asked.shape)
    time = [np.log(result[_KEYS[v]] / result["latency_s"]) for v in ("low90", "high90")]
    low, high = energy_quantiles(device.kind, time)
    least = (idle_power_w(device) or 0.0) / result["light_samples_per_s"]
    of = {"value": expected, "low90": expected * np.exp(low), "high90": expected * np.exp(high), "light": least}
    for variant in VARIANTS:
        values[variant] = np.where(asked, of[variant], values[variant])
