"""Serving in closed form: what queues, prefills in between and the memory limit make of a prefill and a decode step.

Closed load: `clients` send a request each, wait for it, and send the next (what serving benchmarks do). Between two of
its tokens a sequence sees one decode step and its share of the prefills of the others: in the time one sequence takes
to generate `output_tokens`, each of the other running ones is replaced once, so `running - 1` prompts are read in
`output_tokens` steps. Source of the form: Agrawal et al. 2024 (arXiv:2403.02310), sections 3 and 4 (generation stalls).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.evidence.metrics import Times

FloatArray = npt.NDArray[np.float64]


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


def closed_load(c: Closed) -> Times:
    """TTFT and TPOT in a steady closed load.

    TTFT: the step under way, the prompts that arrived together, and the wait for a place when memory holds fewer
    sequences than there are clients. Requests of about one length finish together, so half of the others' prompts stand
    before the mean request at first; in the long run arrivals spread, and the queue is that of an M/D/1 server.
    """
    steps = np.maximum(c.output_tokens, 1.0)
    stall_s = (c.running - 1.0) * c.prompt_s / steps
    tpot_s = c.step_s + stall_s
    request_s = c.prefill_s + steps * tpot_s
    busy = np.minimum((c.running - 1.0) * c.prompt_s / request_s, _BUSY_LIMIT)
    queue_s = c.prompt_s * busy / (2.0 * (1.0 - busy))
    waiting = np.maximum(c.clients / c.running - 1.0, 0.0)
    ttft_s = c.prefill_s + queue_s + 0.5 * c.step_s * (c.running > 1) + waiting * request_s
    return Times(ttft_s=ttft_s, itl_s=tpot_s)


_BUSY_LIMIT = 0.95  # of the time spent in prefill; beyond it a closed load cannot push a server


def full_load_tokens_per_s(c: Closed) -> FloatArray:
    """Generated tokens per second of a replica when every request is queued from the start."""
    steps = np.maximum(c.output_tokens, 1.0)
    return c.running / (c.step_s + c.running * c.prompt_s / steps)
