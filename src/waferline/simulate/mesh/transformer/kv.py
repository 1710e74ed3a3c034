"""A KV cache spread over the rows of a mesh, kept by one of two policies (WaferLLM section 4.3)."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from waferline.errors import DoesNotFitError, unknown

Entry = TypeVar("Entry")

POLICIES = ("shift", "concat")


class KvRows(Generic[Entry]):
    """Entries (one per token) by mesh row, oldest first; `row_capacity` entries fit in a row.

    `concat` puts every new entry in the last row. `shift` keeps the rows level: when the last row would get ahead of a
    row above it, every row from there on passes its oldest entry up, all links at once, and order is kept.
    """

    def __init__(self, rows: int, row_capacity: int, policy: str = "shift") -> None:
        if policy not in POLICIES:
            raise unknown("KV policy", policy, POLICIES)
        self.rows: list[deque[Entry]] = [deque() for _ in range(rows)]
        self.row_capacity, self.policy = row_capacity, policy
        self._receiver = rows - 1  # rows above and at it hold one entry less than those below; the last: all are level
        self.passes = 0  # entries handed to a neighbouring row
        self.rounds = 0  # arrivals that made rows pass entries, all in parallel

    def __len__(self) -> int:
        return sum(len(row) for row in self.rows)

    @property
    def counts(self) -> list[int]:
        """Entries in each row."""
        return [len(row) for row in self.rows]

    def entries(self) -> list[Entry]:
        """All entries from the top row down: the order in which they came."""
        return [entry for row in self.rows for entry in row]

    def append(self, entry: Entry) -> None:
        """Take the newest token's entry.

        Raises:
            DoesNotFitError: the row it must go to is full.
        """
        if self.policy == "shift":
            self._make_level()
        last = self.rows[-1]
        if len(last) >= self.row_capacity:
            raise DoesNotFitError(f"the last row holds {len(last)} tokens and {self.row_capacity} fit",
                                  where=f"KV cache row {len(self.rows) - 1}", hint="policy shift, or a larger grid")  # fmt: skip
        last.append(entry)

    def _make_level(self) -> None:
        """Before an arrival: the lowest of the rows with fewest entries gets one from below, and so on down."""
        last = len(self.rows) - 1
        for row in range(self._receiver, last):
            self.rows[row].append(self.rows[row + 1].popleft())
        self.passes += last - self._receiver
        self.rounds += self._receiver < last
        if len(self.rows[-1]) < self.row_capacity:
            self._receiver = self._receiver - 1 if self._receiver > 0 else last
