"""Attention with one key row a step, whatever the parallelism: queries enter the slots one step apart.

`slots` query rows stay in registers; each step brings ONE key row and multiplies it with all of them. As key j passes
(j < slots), slot j takes its next query, so each query meets the keys in an order that wraps round.
Source: Edge-MoE, arXiv:2305.18691, section III-A and the paper's table of loads.
"""

from __future__ import annotations

from collections.abc import Iterator


def row_steps(tokens: int, slots: int) -> int:
    """Steps (key rows read) until every query has met every key."""
    rounds, rest = divmod(tokens + slots - 1, slots)
    return rounds * tokens + rest


def row_loads(tokens: int, slots: int, reordered: bool = True) -> int:
    """Rows read in all, keys and queries: N²/p + N + p - 1 reordered (p divides N), N² + N without."""
    return (row_steps(tokens, slots) if reordered else tokens * tokens) + tokens


def visits(tokens: int, slots: int) -> Iterator[tuple[int, int]]:
    """The (query, key) pairs in the order in which the slots meet them; slots that hold no query yield nothing."""
    for step in range(row_steps(tokens, slots)):
        turn, key = divmod(step, tokens)
        for slot in range(slots):
            query = (turn if key >= slot else turn - 1) * slots + slot
            if 0 <= query < tokens:
                yield query, key
