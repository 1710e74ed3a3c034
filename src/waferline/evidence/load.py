"""Serving in closed form: what queues, prefills in between and the memory limit make of a prefill and a decode step.

Closed load: `clients` send a request each, wait for it, and send the next (what serving benchmarks do). Between two of
its tokens a sequence sees one decode step and its share of the prefills of the others: in the time one sequence takes
to generate `output_tokens`, each of the other running ones is replaced once, so `running - 1` prompts are read in
`output_tokens` steps. Source of the form: Agrawal et al. 2024 (arXiv:2403.02310), sections 3 and 4 (generation stalls).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from waferline.catalog.yaml_file import read_file
from waferline.evidence.metrics import Times

FloatArray = npt.NDArray[np.float64]
DATA = Path(__file__).parent / "data" / "load.yaml"


@dataclass(frozen=True, slots=True)
class Habits:
    """How a benchmark of one engine loads it: figures of `data/load.yaml`, fitted by `fit_load`.

    stall: prefills of others between a sequence's tokens, over those of arrivals that are spread evenly; a single burst
    that is read before anything is decoded has 1/2. burst: share of requests that wait until half of all others are
    read, as the mean request of a first wave does. front_s: client, tokeniser and scheduler around a request.
    """

    stall: float
    burst: float
    front_s: float


@cache
def habits(engine: str) -> Habits:
    """The habits of `engine`, or of engines in general."""
    table = read_file(DATA)["engines"]
    row = table.get(engine, table["default"])
    return Habits(row["stall"], row["burst"], row["front_s"])


@dataclass(frozen=True, slots=True)
class Closed:
    """What a closed load is made of. Arrays over rows; one data-parallel replica.

    prefill_s: one prompt alone. prompt_s: one prompt among many, the time each adds to a full prefill batch.
    step_s: one decode step with `running` sequences. clients: sequences in the system; running: those in memory.
    """

    prefill_s: FloatArray
    prompt_s: FloatArray
    step_s: FloatArray
    clients: FloatArray
    running: FloatArray
    output_tokens: FloatArray


def closed_load(c: Closed, h: Habits) -> Times:
    """TTFT and TPOT in a closed load.

    TTFT: the request's way in, its own prompt, those that are read before it, half the step under way, and the wait for
    a place when memory holds fewer sequences than there are clients.
    """
    steps = np.maximum(c.output_tokens, 1.0)
    others = c.running - 1.0
    tpot_s = c.step_s + h.stall * others * c.prompt_s / steps
    request_s = c.prefill_s + steps * tpot_s
    before_s = h.burst * others / 2.0 * c.prompt_s
    waiting = np.maximum(c.clients / c.running - 1.0, 0.0)
    ttft_s = h.front_s + c.prefill_s + before_s + 0.5 * c.step_s * (others > 0) + waiting * request_s
    return Times(ttft_s=ttft_s, itl_s=tpot_s)


def full_load_tokens_per_s(c: Closed) -> FloatArray:
    """Generated tokens per second of a replica when every request is queued from the start."""
    steps = np.maximum(c.output_tokens, 1.0)
    return c.running / (c.step_s + c.running * c.prompt_s / steps)
