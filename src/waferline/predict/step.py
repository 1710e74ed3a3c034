"""Seconds of one step of an engine: decodes and prompt chunks that pass through the weights together.

A step reads the weights once for all its rows; attention is added for the decodes and for the chunk, each in the form of its own.
A simulator asks millions of times, so the three sums are tabulated once (`StepModel.tables`) and looked up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import FloatArray, Floats
from waferline.elementwise import maximum, minimum
from waferline.errors import UnsupportedError
from waferline.formats import Precision
from waferline.predict.beside import Beside
from waferline.predict.engine import issued_in
from waferline.predict.memory import resident_bytes
from waferline.predict.overlapped import OTHERS, StepConstants, step_constants
from waferline.predict.phase import Runner
from waferline.predict.roofline import machine_for, time_operator
from waferline.predict.serving_case import ServingCase
from waferline.predict.techniques import Applied, Setting, Step, changed
from waferline.workloads.lower import SEQUENCE_KINDS, lower_decode, lower_prefill, lower_rows
from waferline.workloads.operator import Operator
from waferline.workloads.placement import AT_HOME, Placement
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Transformer
from waferline.workloads.step_tables import StepTables

# Decode batches that engines capture as graphs: a batch pays for the next larger one (vLLM 0.15 `config/compilation.py`).
GRAPH_SIZES = (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16))
_FEW = 64  # rows: every count is computed; beyond it every eighth up to a graph's most, then every 64th
_EACH_OCTAVE = 6  # counts of a table between a number and its double
_LENGTHS = 40  # contexts of a table, in steps of equal ratio


@dataclass(frozen=True, slots=True)
class StepModel:
    """One model on one replica of devices inside one engine: the operators of any step, timed."""

    model: Transformer
    precision: Precision
    parallel: Parallel
    runner: Runner
    constants: StepConstants
    graphed: int = 0  # prompts of up to so many rows run inside graphs, as decodes do
    # Decodes that do; larger batches run without. None: `GRAPH_SIZES`, and all do.
    graphs: tuple[int, ...] | None = None
    techniques: tuple[Applied, ...] = ()
    beside: Beside | None = None
    away: Placement = AT_HOME

    @staticmethod
    def of(
        case: ServingCase,
        label: str,
        parallel: Parallel,
        graphed: int = 0,
        graphs: tuple[int, ...] | None = None,
        away: Placement = AT_HOME,
        *,
        ahead: bool = False,
        version: str = "",
        stages: float = 1.0,
    ) -> StepModel:
        """away: what the host of the case holds. ahead: the engine schedules the next step while one runs. version: of the
        engine; without one its newest. stages: of a pipeline that the layers of `parallel`'s ranks are split into.

        Raises: UnsupportedError for pipelines in `parallel` and for models with an encoder, whose steps are not single passes, and
        for techniques that steps cannot be tabulated with.
        """
        if np.any(np.asarray(parallel.pp) != 1.0):
            raise UnsupportedError("steps of a pipeline are not simulated", hint="use tp")
        if case.model.encoder:
            raise UnsupportedError(f"{case.model.name} has an encoder: its steps are not simulated")
        case.check_techniques()
        for one in case.techniques:
            if one.technique.unserved:
                raise UnsupportedError(f"{one.name} is not simulated with requests: {one.technique.unserved}")
        constants = step_constants(case.engine, case.device, ahead=ahead, version=version)
        runner = Runner(machine_for(case.device, case.engine.kernels), constants.engine.staged(stages))
        fixed = (case.model, case.precision(label), parallel, runner, constants, graphed, graphs)
        return StepModel(*fixed, case.techniques, case.beside, away)

    @property
    def spread(self) -> bool:
        """Whether several ranks share an operator."""
        return bool(np.any(np.asarray(self.parallel.tp) * self.parallel.ep > 1.0))

    @property
    def positions(self) -> float:
        """Rows that a decode puts into a step: the tokens it verifies."""
        return float(max((t.cycle(one.given)[0] for one in self.techniques if (t := one.technique).cycle), default=1.0))

    def _changed(
        self, operators: Iterable[Operator], *, decode: bool, batch: Floats, cached: Floats, tokens: Floats
    ) -> Step:
        """A pass with `tokens` after `cached` ones as the techniques leave it; whole cycles are changed with their attention."""
        step = Step(list(operators), float(sum(b.count for b in self.model.blocks)))
        if not self.techniques:
            return step
        fixed = (self.model, self.runner.machine.device, self.runner.engine.name, self.precision, self.parallel)
        whole = any(op.kind in SEQUENCE_KINDS for op in step.operators)
        served = [one for one in self.techniques if one.technique.server is None]  # the others are the scheduler's
        asked = [one for one in served if whole or one.technique.cycle is None]
        return changed(
            asked,
            "decode" if decode else "prefill",
            step,
            Setting(*fixed, batch, cached + tokens, cached + tokens, 0.0, cached),
        )

    def _seconds(self, operators: Iterable[Operator], *, decode: bool) -> tuple[Floats, float]:
        """Seconds of operators inside the engine, and how many kernels they are."""
        kernels, total, here, host = 0.0, np.asarray(0.0), self.runner, None
        issued: Floats = 0.0
        if self.beside is not None:
            operators = self.beside.placed(operators, self.away)
            host = self.beside.runner(here.engine, self.precision.weights, self.away, 1.0)
            here, host = (
                replace(here, engine=host.without_graph(here.engine)),
                replace(host, engine=host.without_graph(host.engine)),
            )
        resident = resident_bytes(self.model, self.precision, self.parallel, self.away)
        for op in operators:
            runner = here if host is None or op.place != "host" else host
            timed = time_operator(op, runner.machine, resident_bytes=resident if runner is here else np.inf)
            scale = self.constants.moe_scale if op.kind == "moe" and runner is here else 1.0
            seconds = scale * runner.seconds(timed, decode=decode)
            if scale < 1.0:
                seconds = maximum(seconds, timed.floor_s)
            if op.kind == "collective" and self.spread:
                seconds = seconds + self.constants.collective_s
            total = total + op.count * seconds
            if here.engine.issue_s:
                issued = issued + op.count * issued_in(op, seconds)
            kernels += float(np.max(op.count))
        return here.engine.paced_s(total, issued), kernels

    def rows_s(self, rows: Floats, logits: Floats, *, decode: bool) -> Floats:
        """A pass without attention, host included (but for what each decode adds)."""
        shared: dict[str, Any] = {"precision": self.precision, "parallel": self.parallel}
        operators = lower_rows(self.model, rows=rows, logits=logits, decode=decode, **shared)
        step = self._changed(operators, decode=decode, batch=rows, cached=0.0, tokens=rows)
        seconds, kernels = self._seconds(step.operators, decode=decode)
        experts = float(sum(np.max(op.count) for op in step.operators if op.kind == "moe"))
        return seconds + self.runner.engine.host_s(
            layers=step.layers, kernels=kernels + step.layers, expert_layers=experts, sequences=0.0, reads=not decode
        )

    def mixed_s(self, rows: Floats, logits: Floats) -> Floats:
        """The same of a step with prompts in it: in a graph where the engine has one for so many rows."""
        eager = self.rows_s(rows, logits, decode=False)
        replayed = minimum(self.rows_s(padded(rows), logits, decode=True), eager)
        return np.where(np.asarray(rows) <= self.graphed, replayed, eager)

    def launched(self, kinds: Iterable[str]) -> dict[str, float]:
        """Operators of a step with prompts: how many of each of `kinds`, and of all others together."""
        found = dict.fromkeys((*kinds, OTHERS), 0.0)
        for op in lower_prefill(self.model, batch=1, prompt=1.0, precision=self.precision, parallel=self.parallel):
            if self.spread or op.kind != "collective":
                found[op.kind if op.kind in found else OTHERS] += float(np.max(op.count))
        return found

    def launch_s(self, rows: Floats) -> Floats:
        """What the host takes to launch a step with prompts, beside the device: the operators that no graph holds, and beyond
        the rows that graphs are captured for all of them."""
        known = self.constants.launch_s
        if not known:
            return np.zeros(np.shape(rows))
        number = self.launched(known)
        always = sum(s * number[kind] for kind, s in known.items() if kind != OTHERS)
        return always + np.where(np.asarray(rows) <= self.graphed, 0.0, known[OTHERS] * number[OTHERS])

    def alone_s(self, sequences: Floats) -> Floats:
        """A pass of `sequences` decodes and nothing else, without attention."""
        sequences = np.asarray(sequences) * self.positions
        inside = self.rows_s(*(2 * [padded(sequences, self.graphs or GRAPH_SIZES)]), decode=True)
        if self.graphs is None:
            return inside
        eager = maximum(self.rows_s(sequences, sequences, decode=False), inside)
        return np.where(np.asarray(sequences) <= self.graphs[-1], inside, eager)

    def decode_s(self, sequences: Floats, context: Floats) -> Floats:
        """Attention of `sequences` decodes at a mean context, and the drafting of what they verify."""
        ops = lower_decode(
            self.model, batch=sequences, context=context, precision=self.precision, parallel=self.parallel
        )
        step = self._changed(ops, decode=True, batch=sequences, cached=0.0, tokens=context)
        drafted = [op for op in step.operators if op.name.startswith("draft.")]
        own = [op for op in step.operators if op.kind in SEQUENCE_KINDS and not op.name.startswith("draft.")]
        seconds, host_s = self._seconds([*own, *drafted], decode=True)[0], step.host_s
        if drafted:  # the engine's own time of the layers that draft, beside those of the pass (`rows_s`)
            engine, kernels = self.runner.engine, float(sum(np.max(op.count) for op in drafted))
            alone = self._changed([], decode=True, batch=sequences, cached=0.0, tokens=context).layers
            none: dict[str, Any] = {"expert_layers": 0.0, "sequences": 0.0}
            host_s = host_s + engine.host_s(layers=step.layers, kernels=kernels, **none)
            host_s = host_s - engine.host_s(layers=alone, kernels=0.0, **none)
        return seconds + host_s

    def chunk_s(self, tokens: Floats, cached: Floats) -> Floats:
        """Attention of a chunk of a prompt that follows `cached` tokens."""
        ops = lower_prefill(
            self.model, batch=1, prompt=tokens, cached=cached, precision=self.precision, parallel=self.parallel
        )
        step = self._changed(ops, decode=False, batch=1.0, cached=cached, tokens=tokens)
        return self._seconds([op for op in step.operators if op.kind in SEQUENCE_KINDS], decode=False)[0]

    def step_s(self, sequences: Floats, context: Floats, tokens: Floats, cached: Floats) -> Floats:
        """A step of `sequences` decodes at a mean `context` with a chunk of `tokens` after `cached`; either may be none.

        The direct way, for a few points: what `StepTables` looks up.
        """
        most = self.constants.host_sequences
        host = self.runner.engine.sequence_s * minimum(sequences, most)
        some = maximum(sequences, 1.0)
        alone = self.alone_s(some)
        verified = sequences * self.positions
        mixed = self.mixed_s(maximum(verified + tokens, 1.0), verified + 1.0)
        attention = np.where(sequences > 0.0, self.decode_s(some, maximum(context, 1.0)), 0.0)
        chunk = np.where(tokens > 0.0, self.chunk_s(maximum(tokens, 1.0), cached), 0.0)
        device = np.where(tokens > 0.0, mixed + chunk, alone) + attention
        waited = np.hypot(device, host) if most == np.inf else device + host
        return np.hypot(waited, np.where(tokens > 0.0, self.launch_s(verified + tokens), 0.0))

    def tables(self, most_sequences: int, most_rows: int, longest: int) -> StepTables:
        """Tables for up to `most_sequences` decodes, `most_rows` rows and contexts of `longest` tokens.

        A decode is `positions` rows; with techniques, what a batch shares counts every row of a step as a sequence of its own.
        """
        rows = np.arange(1.0, most_rows + 1.0)
        decodes = np.arange(1.0, most_sequences + 1.0)
        knots = _counts(most_rows)
        few = _counts(most_sequences)
        sequences, tokens = _knots(most_sequences), _knots(most_rows)
        contexts = np.unique(np.round(np.geomspace(1.0, max(longest, 2), _LENGTHS)))
        graph = np.asarray(self.alone_s(few))
        mixed = self.mixed_s(knots, 1.0)
        ends = (few - 1.0) * self.positions + 1.0  # of the decodes of a step, and of a prompt
        heads = np.asarray(self.rows_s(1.0, ends, decode=False)) - self.rows_s(1.0, 1.0, decode=False)
        cached = np.concatenate([[0.0], contexts[1:]])
        return StepTables(
            rows_s=np.concatenate([[0.0], np.interp(rows, knots, np.broadcast_to(mixed, knots.shape))]),
            logits_s=np.concatenate([[0.0], np.interp(decodes, few, np.broadcast_to(heads, few.shape))]),
            graph_s=np.concatenate([[0.0], np.interp(decodes, few, np.broadcast_to(graph, few.shape))]),
            sequences=sequences,
            contexts=cached,
            decode_s=_table(self.decode_s(sequences[:, None], np.maximum(cached, 1.0)), sequences, cached),
            tokens=tokens,
            chunk_s=_table(self.chunk_s(tokens[:, None], cached), tokens, cached),
            launch_s=np.concatenate([[0.0], self.launch_s(rows)]),
            sequence_s=self.runner.engine.sequence_s,
            host_sequences=self.constants.host_sequences,
        )


def padded(sequences: Floats, captured: tuple[int, ...] = GRAPH_SIZES) -> FloatArray:
    """Decodes as the graph that runs them counts them."""
    sizes = np.asarray(captured, dtype=float)
    number = np.asarray(sequences, dtype=float)
    return np.where(number > sizes[-1], number, sizes[np.minimum(np.searchsorted(sizes, number), sizes.size - 1)])


def _counts(most: int) -> FloatArray:
    """Counts of rows to compute, up to `most`."""
    graph = GRAPH_SIZES[-1]
    every = [*range(1, _FEW), *range(_FEW, graph, 8), *range(graph, most, 64), most]
    joined = np.unique(np.asarray(every, dtype=float))
    return joined[joined <= most]


def _knots(most: int) -> FloatArray:
    """Whole numbers from 1 to `most` or a little beyond, in steps of about equal ratio."""
    octaves = np.ceil(np.log2(max(most, 2)))
    return np.unique(np.round(2.0 ** (np.arange(_EACH_OCTAVE * octaves + 1.0) / _EACH_OCTAVE)))


def _table(values: Floats, first: FloatArray, second: FloatArray) -> FloatArray:
    return np.ascontiguousarray(np.broadcast_to(values, (first.size, second.size)), dtype=float)
