"""Serving under load in closed form: what arrivals, waiting, prefills in between and memory make of a prefill and a step.

Three loads. *closed*: clients that send a request when theirs is done (what serving benchmarks do). *burst*: all requests at
once. *full*: a queue that never empties. Between two of its tokens a sequence sees one decode step and its share of the
prefills of others: while it generates `output_tokens`, each of the other running ones is replaced once. Form: Agrawal et al.
2024 (arXiv:2403.02310), sections 3 and 4 (generation stalls); waiting for a place by Little's law.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from waferline.arrays import FloatArray
from waferline.catalog.yaml_file import read_packaged

LOADS = ("static", "closed", "burst", "full")
CHUNK_TOKENS = 8192.0  # prompts are read together up to this many tokens (max_num_batched_tokens)
MOST_SEQUENCES = 2048.0  # TensorRT-LLM's default max_batch_size; vLLM and SGLang stop at 256 to 1024 by default
_EVERYTHING_AT_ONCE = 0.5  # of a burst, a sequence sees on average the prefills of those after it: half of the others


@dataclass(frozen=True, slots=True)
class Habits:
    """How a benchmark of one engine loads it: figures of `catalog/loads.yaml`, fitted on published closed loads.

    stall: prefills of others between a sequence's tokens, over those of arrivals that are spread evenly. burst: share of
    requests that wait until half of all others are read, as the mean request of a first wave does. clump: share of a full
    prefill batch that a request waits for with its own. first_share: one prompt alone, over the sum of its operators.
    front_s: client, tokeniser and scheduler around a request. residual: quantiles of log(measured / predicted) by metric.
    """

    stall: float
    burst: float
    clump: float
    first_share: float
    front_s: float
    residual: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@cache
def habits(engine: str) -> Habits:
    """The habits of `engine`, or of engines in general."""
    table = read_packaged("loads.yaml")["engines"]
    row = table.get(engine, table["default"])
    return Habits(**{k: v for k, v in row.items() if k != "fit"})


@dataclass(frozen=True, slots=True)
class Pieces:
    """What a load is made of. Arrays over scenarios; one data-parallel replica.

    prefill_s: one prompt alone. prompt_s: one prompt among many, the time each adds to a full prefill batch. step_s: one
    decode step with `running` sequences. clients: sequences in the system; running: those in memory; together: prompts
    that one prefill batch takes.
    """

    prefill_s: FloatArray
    prompt_s: FloatArray
    step_s: FloatArray
    clients: FloatArray
    running: FloatArray
    output_tokens: FloatArray
    together: FloatArray = field(default_factory=lambda: np.asarray(1.0))


@dataclass(frozen=True, slots=True)
class Loaded:
    """Seconds under load: to the first token, between tokens, and of the whole request."""

    ttft_s: FloatArray
    itl_s: FloatArray
    request_s: FloatArray


def closed_load(p: Pieces, h: Habits) -> Loaded:
    """A steady closed load.

    TTFT: the way in, the request's own prompt, those read with it or before it, half the step under way, and the wait for
    a place when memory holds fewer sequences than there are clients.
    """
    steps = np.maximum(p.output_tokens, 1.0)
    others = p.running - 1.0
    tpot_s = p.step_s + h.stall * others * p.prompt_s / steps
    clump = h.clump * (np.minimum(p.together, p.running) - 1.0)
    before_s = (h.burst * others / 2.0 + clump) * p.prompt_s
    first_s = h.first_share * p.prefill_s + before_s
    waiting = np.maximum(p.clients / p.running - 1.0, 0.0) * (first_s + steps * tpot_s)
    return _loaded(h.front_s + first_s + waiting, tpot_s, steps)


def burst_load(p: Pieces, h: Habits) -> Loaded:
    """`clients` requests at once: prompts are read one after the other, in as many waves as memory makes of them."""
    steps = np.maximum(p.output_tokens, 1.0)
    others = p.running - 1.0
    tpot_s = p.step_s + _EVERYTHING_AT_ONCE * others * p.prompt_s / steps
    first_s = h.first_share * p.prefill_s + others / 2.0 * p.prompt_s
    waves = np.maximum(p.clients / p.running, 1.0)
    waiting = (waves - 1.0) / 2.0 * (first_s + steps * tpot_s)
    return _loaded(h.front_s + first_s + waiting, tpot_s, steps)


def _loaded(ttft_s: FloatArray, tpot_s: FloatArray, steps: FloatArray) -> Loaded:
    return Loaded(ttft_s=np.asarray(ttft_s), itl_s=np.asarray(tpot_s), request_s=ttft_s + (steps - 1.0) * tpot_s)


def full_load_tokens_per_s(p: Pieces) -> FloatArray:
    """Generated tokens per second of a replica when every request is queued from the start."""
    steps = np.maximum(p.output_tokens, 1.0)
    return p.running / (p.step_s + p.running * p.prompt_s / steps)


def held_share(inputs: FloatArray, outputs: FloatArray, reserve: float) -> FloatArray:
    """Sequences that memory holds over those that it holds at full length.

    A running sequence is half generated on average; `reserve` of what it still has to generate is kept free for it.
    """
    held = inputs + outputs * (0.5 + 0.5 * reserve)
    return np.asarray((inputs + outputs) / np.maximum(held, 1.0))


def running_sequences(clients: FloatArray, most: FloatArray, replicas: FloatArray) -> FloatArray:
    """Sequences that decode together on all replicas: what is asked, what memory holds, what schedulers take."""
    return np.maximum(np.floor(np.minimum(np.minimum(clients, most), MOST_SEQUENCES * replicas)), replicas)


def prompts_together(inputs: FloatArray, running: FloatArray, replicas: FloatArray) -> FloatArray:
    """Prompts that one prefill batch of a replica takes."""
    most = np.maximum(np.floor(CHUNK_TOKENS / np.maximum(inputs, 1.0)), 1.0)
    return np.asarray(np.minimum(most, np.ceil(running / replicas)))
