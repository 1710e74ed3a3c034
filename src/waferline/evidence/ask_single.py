"""Groups of one-pass rows put to the door of every face, `predict.scenario.run`: encoders and convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from waferline.evidence.answer import VARIANTS, Answer, answers, single
from waferline.evidence.names import model_spec
from waferline.evidence.request import Request
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
    diffuses = isinstance(model, StreamNet) and bool(model.steps)  # whose rows devices share
    scenario = Scenario(
        model=model,
        machine=first.machine,
        phase=first.variant,
        batch=single(np.ceil(batch if diffuses else batch / devices)),
        devices=(int(devices[0]) if len(set(devices)) == 1 else devices) if diffuses else None,
        prompt=single(tokens),
        precision=first.precision,
        engine=first.engine,
        steps=first.steps or None,
        image_size=first.image_size or None,
    )
    unread: dict[str, Any] = {name: None for name in ("prompt", "steps", "image_size") if name not in reads(scenario)}
    result = run(replace(scenario, **unread)).result
    # Of devices that share a sample of another network each has a part.
    together = np.ones(batch.shape) if diffuses else np.minimum(1.0, batch / devices)
    is_time = np.array([r.answer == "latency_s" for r in requests])
    counted = np.where([r.answer == "passes_per_s" for r in requests], 1.0, batch)  # what a rate counts in one pass
    values = {}
    for variant in VARIANTS:
        seconds = np.broadcast_to(result[_KEYS[variant]], batch.shape) * together
        values[variant] = np.where(is_time, seconds, counted / seconds)
    tiers = np.broadcast_to(result["tier"], batch.shape).tolist()
    return answers(values, tiers, [()] * len(requests))
