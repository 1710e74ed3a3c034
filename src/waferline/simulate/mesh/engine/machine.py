"""A mesh whose cores keep their memory from run to run, and what one run of it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray, IntArray
from waferline.errors import InvalidInputError, WaferlineError
from waferline.machines.mesh import MeshParameters, check_grid
from waferline.simulate.mesh.engine import state as st
from waferline.simulate.mesh.engine.events import RUN, schedule
from waferline.simulate.mesh.engine.loop import run_events
from waferline.simulate.mesh.engine.program import Program

ROUNDING = {"fp32": 0, "fp16": 1, "int8": 2}
"""How sums are stored, by accumulator format (int8 data accumulate in whole numbers)."""

FINE_TICKS = 10  # ticks per cycle when a figure is not whole: fitted figures carry one decimal
EVENTS_PER_REPORT = 2_000_000


class DeadlockError(WaferlineError):
    """The mesh came to rest before every core finished: a receive has no matching send."""

    kind = "deadlock"


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """One run: cycles since its start unless said otherwise; arrays are per core, links are (core, N S E W)."""

    cycles: float
    finish_cycles: FloatArray
    compute_cycles: FloatArray
    communication_cycles: FloatArray
    overlap_cycles: FloatArray
    link_words: IntArray
    mark_first_cycles: FloatArray
    mark_last_cycles: FloatArray
    peak_queue_words: int
    colours: int
    events: int

    @property
    def hop_words(self) -> int:
        """Word-hops over all links."""
        return int(self.link_words.sum())


class MeshMachine:
    """`width` x `height` cores with `elements` memory places each, holding `number_format` data."""

    def __init__(
        self,
        parameters: MeshParameters,
        width: int,
        height: int,
        elements: int,
        *,
        number_format: str = "fp16",
        accumulator: str | None = None,
    ) -> None:
        check_grid(parameters, width, height)
        if (accumulator or number_format) not in ROUNDING:
            raise InvalidInputError(f"accumulator '{accumulator}' is not one of {', '.join(ROUNDING)}", where="mesh")
        self.parameters, self.width, self.height = parameters, width, height
        self.lanes = parameters.elements_per_word(number_format)
        self.rounding = ROUNDING[accumulator or number_format]
        self.memory = np.zeros((width * height, elements))

    def run(
        self,
        program: Program,
        *,
        tile: tuple[int, int, int] = (0, 0, 0),
        progress: Callable[[int], None] | None = None,
    ) -> RunStatistics:
        """Run `program` from time 0 until the mesh is at rest; memory is changed in place.

        `tile` is (mt, kt, nt) of the multiply instruction; `progress` is called with the events done so far.

        Raises:
            DeadlockError: a core never reached its last instruction.
        """
        ticks = self._ticks_per_cycle(program)
        instr, start = program.instructions(ticks)
        down, up = program.links()
        s = st.new_state(
            par=self._figures(ticks, program),
            tile=np.array(tile, np.int64),
            instr=instr,
            start=start,
            memory=self.memory,
            route=program.mask.reshape(-1).astype(np.int64),
            down=down,
            up=up,
            n_marks=program.n_marks,
        )
        _start_all(s)
        events = 0
        while (step := run_events(s, EVENTS_PER_REPORT)) == EVENTS_PER_REPORT:
            events += step
            if progress is not None:
                progress(events)
        self._check_finished(s)
        return _statistics(s, ticks, program, events + step)

    def _figures(self, ticks: int, program: Program) -> st.I64:
        p = self.parameters
        cycles = {st.SLOT: 1 / p.link_words_per_cycle, st.HOP: p.hop_cycles, st.RAMP_TICKS: p.ramp_cycles}
        par = np.zeros(st.N_PAR, np.int64)
        par[st.DEPTH], par[st.LANES], par[st.ROUNDING] = p.queue_words, self.lanes, self.rounding
        par[st.COLOURS] = program.n_colours
        in_core = max((rows[:, 1].max(initial=0) for rows in program.times()), default=0)
        par[st.PLACES] = p.queue_words + np.ceil(in_core + p.ramp_cycles)
        for column, value in cycles.items():
            par[column] = round(value * ticks)
        return par

    def _ticks_per_cycle(self, program: Program) -> int:
        p = self.parameters
        figures = np.array([1 / p.link_words_per_cycle, p.hop_cycles, p.ramp_cycles])
        times = np.concatenate([figures, *(rows.ravel() for rows in program.times())])
        return 1 if np.array_equal(times, np.rint(times)) else FINE_TICKS

    def _check_finished(self, s: st.State) -> None:
        stuck = np.flatnonzero(s.cores[:, st.FINISH] < 0)
        if stuck.size:
            core = int(stuck[0])
            raise DeadlockError(
                f"{stuck.size} of {s.cores.shape[0]} cores never finished; the first waits at instruction "
                f"{int(s.cores[core, st.PC] - s.start[core])} of its program",
                where=f"core ({core % self.width}, {core // self.width})",
            )


def _start_all(s: st.State) -> None:
    for core in range(s.cores.shape[0]):
        schedule(s, 0, RUN, core)


def _statistics(s: st.State, ticks: int, program: Program, events: int) -> RunStatistics:
    per_core = s.cores / ticks
    return RunStatistics(
        cycles=float(per_core[:, st.FINISH].max()),
        finish_cycles=per_core[:, st.FINISH],
        compute_cycles=per_core[:, st.BUSY],
        communication_cycles=per_core[:, st.COMM],
        overlap_cycles=per_core[:, st.OVERLAP],
        link_words=s.cores[:, st.LINK_WORDS : st.LINK_WORDS + 4].astype(np.int64),
        mark_first_cycles=s.mark_times[:, 0] / ticks,
        mark_last_cycles=s.mark_times[:, 1] / ticks,
        peak_queue_words=int(s.clock[st.PEAK_QUEUE]),
        colours=program.colours_per_router(),
        events=events,
    )
