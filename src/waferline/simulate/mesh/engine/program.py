"""What a mesh runs: instructions per core and static routes per colour, written for many cores at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from waferline.arrays import FloatArray, IntArray
from waferline.errors import DoesNotFitError, InvalidInputError
from waferline.simulate.mesh.engine import state as st

_MOST = 2**31 - 1  # of a figure of an instruction
STEP = {st.NORTH: (0, -1), st.SOUTH: (0, 1), st.EAST: (1, 0), st.WEST: (-1, 0)}
"""Where each port leads, as (dx, dy)."""

OPPOSITE = {st.NORTH: st.SOUTH, st.SOUTH: st.NORTH, st.EAST: st.WEST, st.WEST: st.EAST}


class Program:
    """Instructions and routes of one run on a `width` x `height` mesh; cores are numbered `y * width + x`.

    Columns not named are 0. Times are given in cycles and turned into ticks by the machine.
    """

    def __init__(self, width: int, height: int, n_colours: int, *, colour_limit: int) -> None:
        if n_colours > colour_limit:
            raise DoesNotFitError(f"{n_colours} colours needed per core, {colour_limit} routable", where="routing")
        self.width, self.height, self.n_colours = width, height, n_colours
        self.mask = np.zeros((width * height, n_colours), np.uint8)
        self.source = np.full((width * height, n_colours), -1, np.int8)
        self.n_marks = 0
        self._length = np.zeros(width * height, np.int64)
        self._cores: list[IntArray] = []
        self._rows: list[FloatArray] = []

    @property
    def cores(self) -> IntArray:
        """All core numbers."""
        return np.arange(self.width * self.height)

    def add(self, cores: ArrayLike, op: int, **columns: ArrayLike) -> None:
        """Append instruction `op` to each of `cores`; columns (`c_in`, `addr`, ...) are scalars or per core."""
        at = np.atleast_1d(np.asarray(cores, np.int64))
        rows = np.zeros((at.size, st.N_COLUMNS))
        rows[:, st.OP] = op
        for name, value in columns.items():
            rows[:, COLUMN[name]] = value
        self._length[at] += 1
        self._cores.append(at)
        self._rows.append(rows)

    def position(self, cores: ArrayLike) -> IntArray:
        """Number of the next instruction of each of `cores`: where a loop may jump back to."""
        return self._length[np.asarray(cores, np.int64)]

    def mark(self, cores: ArrayLike, times: int = 1) -> None:
        """Record when each core passes here; `times` is how often it will."""
        self.add(cores, st.MARK)
        self.n_marks += times

    def route(self, cores: ArrayLike, colour: ArrayLike, source: int, outputs: int) -> None:
        """Words of `colour` that reach these routers from port `source` leave by the ports in the mask `outputs`.

        Raises:
            InvalidInputError: the router already takes that colour from another port.
        """
        at = np.atleast_1d(np.asarray(cores, np.int64))
        colours = np.broadcast_to(np.asarray(colour), at.shape)
        old = self.source[at, colours]
        clash = (old >= 0) & (old != source)
        if clash.any():
            where = int(at[clash][0])
            raise InvalidInputError(
                f"colour {int(colours[clash][0])} would enter from two ports",
                where=f"router ({where % self.width}, {where // self.width})",
            )
        self.source[at, colours] = source
        self.mask[at, colours] |= np.uint8(outputs)

    def times(self) -> list[FloatArray]:
        """Every duration the instructions name, as (instruction, (ticks, latency)) in cycles."""
        return [rows[:, [st.TICKS, st.LATENCY]] for rows in self._rows]

    def instructions(self, ticks_per_cycle: int) -> tuple[st.I32, st.I64]:
        """All instructions ordered by core (program order kept), and each core's bounds in them. Raises: InvalidInputError."""
        n_cores = self.width * self.height
        if not self._rows:
            return np.zeros((0, st.N_COLUMNS), np.int32), np.zeros(n_cores + 1, np.int64)
        cores, rows = np.concatenate(self._cores), np.concatenate(self._rows)
        order = np.argsort(cores, kind="stable")
        rows = rows[order]
        for column in (st.TICKS, st.LATENCY):
            rows[:, column] = np.rint(rows[:, column] * ticks_per_cycle)
        if rows.max() > _MOST:
            raise InvalidInputError(
                f"an instruction of {rows.max():.3g} ticks or elements is above {_MOST:,}", where="mesh"
            )
        bounds = np.searchsorted(cores[order], np.arange(n_cores + 1))
        return rows.astype(np.int32), bounds.astype(np.int64)

    def links(self) -> tuple[st.I32, st.I32]:
        """`down[q, port]`: the queue a word reaches by that port; `up[q]`: the queue that feeds `q`, -1 for its core.

        Raises:
            InvalidInputError: a route leaves the mesh, or ends at a router that does not take the colour from there.
        """
        n, colours = self.width * self.height, self.n_colours
        down = np.full((n * colours, 4), -1, np.int32)
        up = np.full(n * colours, -1, np.int32)
        cores, kinds = np.nonzero(self.mask)
        x, y = cores % self.width, cores // self.width
        for port, (dx, dy) in STEP.items():
            leaves = (self.mask[cores, kinds] & (1 << port)) > 0
            tx, ty = x[leaves] + dx, y[leaves] + dy
            inside = (tx >= 0) & (tx < self.width) & (ty >= 0) & (ty < self.height)
            to = np.where(inside, ty * self.width + tx, 0)
            taken = inside & (self.source[to, kinds[leaves]] == OPPOSITE[port])
            if not taken.all():
                bad = int(np.flatnonzero(~taken)[0])
                raise InvalidInputError(
                    f"colour {int(kinds[leaves][bad])} leaves towards a router that does not take it",
                    where=f"router ({int(x[leaves][bad])}, {int(y[leaves][bad])})",
                )
            q = cores[leaves] * colours + kinds[leaves]
            down[q, port] = to * colours + kinds[leaves]
            up[down[q, port]] = q
        return down, up

    def colours_per_router(self) -> int:
        """The largest number of colours any one router carries."""
        return int((self.source >= 0).sum(axis=1).max(initial=0))


COLUMN = {
    "c_in": st.C_IN,
    "c_out": st.C_OUT,
    "addr": st.ADDR,
    "delta": st.DELTA,
    "count": st.COUNT,
    "ticks": st.TICKS,
    "latency": st.LATENCY,
    "run_async": st.ASYNC,
    "aux": st.AUX,
    "aux_delta": st.AUX_DELTA,
    "aux2": st.AUX2,
}
"""Instruction columns by the name `Program.add` knows them by; `ticks` and `latency` are given in cycles."""
