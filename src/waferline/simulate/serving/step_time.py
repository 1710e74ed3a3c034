"""The time of one step, looked up: kept out of Python, for it is asked for every step of every request."""

from __future__ import annotations

import numba
import numpy as np

from waferline.arrays import FloatArray
from waferline.simulate.serving.state import Memory
from waferline.workloads.step_tables import StepTables


@numba.njit(cache=True)
def _between(grid: FloatArray, value: float) -> tuple[int, float]:
    """Index below `value` in an increasing grid and the share of the way to the next; beyond its ends it goes on straight."""
    low, high = 0, grid.size - 2
    while low < high:
        middle = (low + high + 1) // 2
        if grid[middle] <= value:
            low = middle
        else:
            high = middle - 1
    return low, (value - grid[low]) / (grid[low + 1] - grid[low])


@numba.njit(cache=True)
def _look_up(table: FloatArray, first: FloatArray, second: FloatArray, a: float, b: float) -> float:
    i, x = _between(first, a)
    j, y = _between(second, b)
    below = table[i, j] * (1.0 - y) + table[i, j + 1] * y
    above = table[i + 1, j] * (1.0 - y) + table[i + 1, j + 1] * y
    return below * (1.0 - x) + above * x


@numba.njit(cache=True)
def step_seconds(
    steps: StepTables,
    decodes: int,
    context_sum: float,
    tokens: int,
    pairs: float,
    positions: int = 1,
    pass_tokens: int = 1 << 60,
) -> float:
    """A step of `decodes` with `context_sum` tokens of context in all, and prompt chunks of `tokens` with `pairs` query-key
    pairs: as one chunk of as many tokens and pairs. A decode is `positions` rows; so many passes as `pass_tokens` ask."""
    launch = 0.0
    if tokens == 0:
        total = steps.graph_s[min(decodes, steps.graph_s.size - 1)]
    else:
        rows = min(decodes * positions + tokens, steps.rows_s.size - 1)
        total = steps.rows_s[rows]
        launch = steps.launch_s[rows]
        total += steps.logits_s[min(decodes + 1, steps.logits_s.size - 1)]  # one of the prompts ends, too
        own = 0.5 * tokens * (tokens + 1.0)
        if pairs >= own:
            total += _look_up(steps.chunk_s, steps.tokens, steps.contexts, float(tokens), (pairs - own) / tokens)
        else:  # several short prompts
            total += _look_up(steps.chunk_s, steps.tokens, steps.contexts, float(tokens), 0.0) * pairs / own
    if decodes > 0:
        total += _look_up(steps.decode_s, steps.sequences, steps.contexts, float(decodes), context_sum / decodes)
        if steps.host_sequences < np.inf:
            total += steps.sequence_s * min(float(decodes), steps.host_sequences)
    passes = (
        decodes * positions + tokens - 1
    ) // pass_tokens  # more than the first, each of which reads the weights again
    if passes > 0:
        total += passes * (steps.rows_s[1] - 0.5 * (steps.rows_s[2] - steps.rows_s[1]))
    if steps.host_sequences == np.inf:  # the device hides the host, and the host the device where it takes longer
        total = np.hypot(total, steps.sequence_s * decodes)
    return np.hypot(total, launch)


@numba.njit(cache=True)
def sequence_bytes(memory: Memory, tokens: int) -> float:
    """Memory that a sequence of `tokens` tokens holds, in whole blocks."""
    if tokens <= 0:
        return 0.0
    rounded = float((tokens + memory.block - 1) // memory.block * memory.block)
    return memory.full * rounded + memory.window * min(rounded, memory.window_tokens) + memory.state
