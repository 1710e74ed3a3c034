"""One model on one machine with one engine, and what each of its passes takes: all of `ServingModel` but the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from waferline.arrays import AnyArray, Floats
from waferline.elementwise import ceil, floor, maximum, minimum
from waferline.errors import InvalidInputError
from waferline.formats import Precision, computed_notes, get_format, resolve
from waferline.machines.device import Device
from waferline.predict.beside import Beside
from waferline.predict.blocks import Values
from waferline.predict.derived import DERIVED, HIDDEN
from waferline.predict.engine import Engine
from waferline.predict.load import loaded_values
from waferline.predict.memory import Asked, Footprint, footprint, model_weight_bytes, resident_bytes
from waferline.predict.operator_row import OperatorRow
from waferline.predict.phase import INTERVALS, Phase, per_token, run_phase
from waferline.predict.power import phase_power_w
from waferline.predict.result import Fields
from waferline.predict.roofline import machine_for
from waferline.predict.techniques import Applied, Setting, Step, changed
from waferline.remember import by_identity
from waferline.workloads.lower import lower_decode, lower_prefill, prompt_of
from waferline.workloads.operator import Operator
from waferline.workloads.placement import AT_HOME, Placement
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import ModelSpec, Transformer
from waferline.workloads.weights import as_shipped

Arguments = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class ServingCase:
    """One model on one machine with one engine: everything but the numbers."""

    model: Transformer
    device: Device
    engine: Engine
    kv: str | None
    load: str = "static"
    intervals: bool = True
    beside: Beside | None = None
    techniques: tuple[Applied, ...] = ()
    only: str = ""  # memory or decode, where nobody reads the rest
    precisions: dict[str, Precision] = field(default_factory=dict)  # by label, resolved once

    def precision(self, label: str) -> Precision:
        if label not in self.precisions:
            kept = next((one.technique.kv(one.given) for one in self.techniques if one.technique.kv), None)
            own = kept if self.kv is None else self.kv
            asked = resolve(label, self.device.arithmetic, kv=self.engine.cache_format if own is None else own)
            self.precisions[label] = as_shipped(self.model, asked, self.device.arithmetic)
        return self.precisions[label]

    def away(self, precision: Precision, a: Arguments) -> Placement:
        """What of the model a host holds and runs."""
        if self.beside is None:
            return AT_HOME
        return self.beside.away(lambda p: self.holds(precision, a, p, None), ceil(a["batch_size"] / a["dp"]))

    def _placed(
        self, operators: Iterable[Operator], precision: Precision, a: Arguments, batch: Floats, keep: bool
    ) -> tuple[Iterable[Operator], dict[str, Any]]:
        """The operators where they run, and what `run_phase` needs to know."""
        parallel, away, runner = parallel_of(a), self.away(precision, a), None
        if self.beside is not None:
            operators = self.beside.placed(operators, away)
            runner = self.beside.runner(self.engine, precision.weights, away, minimum(ceil(batch / a["dp"]), a["pp"]))
        return operators, {
            "machine": machine_for(self.device, self.engine.kernels),
            "engine": self.engine,
            "host": runner,
            "layers": float(sum(b.count for b in self.model.blocks)),
            "stages": parallel.pp,
            "resident_bytes": resident_bytes(self.model, precision, parallel, away),
            "intervals": self.intervals,
            "keep": keep,
        }

    def prefill(self, label: str, a: Arguments, batch: Floats, *, keep: bool = False) -> Phase:
        """The prefill of one replica, with `batch / (dp · pp)` prompts in each pipeline stage at a time."""
        precision, parallel = self.precision(label), parallel_of(a)
        local = ceil(batch / (a["dp"] * a["pp"]))
        inputs, cached = inputs_of(a), self._cached(a)
        operators: Iterable[Operator] = lower_prefill(
            self.model,
            batch=local,
            prompt=a["seq_len"] - cached,
            cached=cached,
            precision=precision,
            parallel=parallel,
            inputs=inputs,
        )
        step = self._changed("prefill", operators, precision, a, local)
        operators, settings = self._placed(step.operators, precision, a, batch, keep)
        settings["layers"] = step.layers
        settings["layers"] += sum(b.count for b in self.model.encoder)
        settings["layers"] += sum(
            t.net.layers * minimum(inputs[t.kind], 1.0) for t in self.model.towers if t.kind in inputs
        )
        phase = run_phase(operators, **settings)
        return per_token(phase, step.tokens, step.host_s) if self.techniques else phase

    def decode(self, label: str, a: Arguments, batch: Floats, *, keep: bool = False) -> Phase:
        """A decode step at the mean context of the generation, with as many sequences in a stage as in `prefill`."""
        precision, parallel = self.precision(label), parallel_of(a)
        local = ceil(batch / (a["dp"] * a["pp"]))
        prompt, memory = prompt_of(self.model, a["seq_len"], inputs_of(a))
        context = prompt + (a["output_len"] + 1.0) / 2.0
        operators: Iterable[Operator] = lower_decode(
            self.model, batch=local, context=context, precision=precision, parallel=parallel, memory=memory
        )
        step = self._changed("decode", operators, precision, a, local)
        operators, settings = self._placed(step.operators, precision, a, batch, keep)
        settings["layers"] = step.layers
        phase = run_phase(operators, sequences=local, **settings)
        return per_token(phase, step.tokens, step.host_s) if self.techniques else phase

    def _cached(self, a: Arguments) -> Floats:
        """Tokens of each prompt that the cache holds already; the last one is always computed."""
        left = 1.0
        for one in self.techniques:
            left *= 1.0 - (one.technique.cached(one.given) if one.technique.cached else 0.0)
        return 0.0 if left == 1.0 else minimum(floor(a["seq_len"] * (1.0 - left)), a["seq_len"] - 1.0)

    def _changed(
        self, phase: str, operators: Iterable[Operator], precision: Precision, a: Arguments, local: Floats
    ) -> Step:
        """The pass as the techniques leave it, in the order in which they were asked for."""
        step = Step(list(operators), float(sum(b.count for b in self.model.blocks)))
        return changed(self.techniques, phase, step, self._setting(precision, a, local)) if self.techniques else step

    def _setting(self, precision: Precision, a: Arguments, local: Floats) -> Setting:
        prompt, memory = prompt_of(self.model, a["seq_len"], inputs_of(a))
        middle = prompt + (a["output_len"] + 1.0) / 2.0
        fixed = (self.model, self.device, self.engine.name, precision, parallel_of(a))
        return Setting(*fixed, local, prompt, middle, memory, self._cached(a))

    def check_techniques(self) -> None:
        """Raises: InvalidInputError, UnsupportedError for techniques that this model or this machine cannot take."""
        if self.techniques and self.model.encoder:
            raise InvalidInputError(f"techniques change models of a decoder alone; {self.model.name} has an encoder")
        for one in self.techniques:
            one.check(self.model, self.device)
            if one.technique.own_units and self.beside is not None:
                raise InvalidInputError(f"{one.name} is done by units of {self.device.name}: not beside a host")
            if self.kv is not None and one.technique.kv:
                raise InvalidInputError(f"kv {self.kv} and {one.said()} say the same twice")

    def values(self, label: str, a: Arguments, seen: dict[str, Phase] | None = None) -> Values:
        """What the operators and the memory say; the rest follows from it (`DERIVED`). seen: takes the passes."""
        parallel, precision = parallel_of(a), self.precision(label)
        out = self._memory(precision, a, parallel)
        passes = self._passes(label, a, keep=seen is not None)
        if seen is not None:
            seen |= passes
        peak = self.device.peak(get_format(precision.activations).arithmetic)
        for name, phase in passes.items():
            power = phase_power_w(self.device, phase)
            out |= {
                f"{name}_bottleneck": phase.bottleneck,
                f"{name}_tier": phase.tier,
                f"{name}_time_s": phase.time_s,
                f"{name}_flops": phase.flops,
                f"{name}_bytes": phase.bytes,
                f"{name}_peak_flops": peak,
                **({} if power is None else {f"{name}_power_w": power * parallel.devices}),
                **{f"{name}_{key}": q for key, q in zip(INTERVALS, phase.log_q, strict=False)},
            }
        # Micro-batches follow one another through the stages: the batch is done when the last one leaves the last stage.
        # The bound lets the chunks of one prompt follow one another through the stages, too.
        if prefill := passes.get("prefill"):
            filled_s = prefill.time_s * self.pipeline_fill(a, a["batch_size"])
            out |= {"ttft_s": filled_s, "light_ttft_s": prefill.light_s / parallel.pp}
        if decode := passes.get("decode"):
            out |= {"itl_s": decode.time_s, "light_itl_s": decode.light_s}
        if passes and self.load != "static":
            out |= loaded_values(self, label, a, out["max_batch_size"], self.load)
        return {name: np.asarray(value) for name, value in out.items()}

    def _passes(self, label: str, a: Arguments, *, keep: bool) -> dict[str, Phase]:
        """What is timed: both passes, unless nobody reads one of them."""
        if self.only == "memory":
            return {}
        before = {} if self.only == "decode" and self.load == "static" else {"prefill": self.prefill}
        return {
            name: run(label, a, a["batch_size"], keep=keep) for name, run in (before | {"decode": self.decode}).items()
        }

    def fields(self, values: Values, a: Arguments) -> Fields:
        """The values that are shown, and how those that nobody may read follow from the rest."""
        hidden = {name: value for name, value in values.items() if name in HIDDEN}
        shown = {name: value for name, value in values.items() if name not in hidden}
        device = self.device
        sheet: dict[str, Any] = {
            "bandwidth": device.bandwidth_bytes_per_s,
            "hourly_usd": device.hourly_usd,
            "limit_w": device.tdp_w,
        }
        sheet |= {"kind": device.kind}
        has = lambda *needs: all(n in values or sheet.get(n) is not None for n in needs)  # noqa: E731
        derived = {name: formula for name, (needs, formula) in DERIVED.items() if has(*needs)}
        return Fields(shown, {**a, **hidden, **sheet}, derived)

    def pipeline_fill(self, a: Arguments, batch: Floats) -> Floats:
        """Time of a prefill through all stages over that of one micro-batch; long prompts pass in pieces of their own."""
        waves = minimum(ceil(batch / a["dp"]), a["pp"])
        pieces = maximum(ceil(a["seq_len"] / self.engine.wave_tokens), 1.0)
        return (a["pp"] + waves * pieces - 1.0) / (a["pp"] * pieces)

    def _memory(self, precision: Precision, a: Arguments, parallel: Parallel) -> dict[str, Any]:
        host = None if self.beside is None else self.beside.host
        held = self.holds(precision, a, self.away(precision, a), host)
        there = {} if self.beside is None else self.beside.memory(held)
        return there | {
            "feasible": ceil(a["batch_size"] / parallel.dp) <= held.most_sequences,
            "weights_bytes": model_weight_bytes(self.model, precision),
            "device_weights_bytes": held.weights_bytes,
            "device_kv_bytes": held.kv_bytes,
            "device_activation_bytes": held.activation_bytes,
            "device_workspace_bytes": held.workspace_bytes,
            "device_memory_bytes": held.total_bytes,
            "max_batch_size": held.most_sequences * parallel.dp,
            "kv_capacity_tokens": floor(held.kv_capacity_tokens * parallel.dp),
            "devices": parallel.devices,
            "usable_bytes": held.usable_bytes,
            "capacity_bytes": self.device.capacity_bytes,
        }

    def holds(self, precision: Precision, a: Arguments, away: Placement, host: Device | None) -> Footprint:
        """What a device holds of `a`'s sequences, and what it has room for."""
        parallel = parallel_of(a)
        prompt, memory = prompt_of(self.model, a["seq_len"], inputs_of(a))
        tokens = prompt + a["output_len"]
        asked = Asked(
            sequences=ceil(a["batch_size"] / parallel.dp),
            tokens=tokens,
            context=a.get("context", tokens),
            prompt=a["seq_len"],
            memory=memory,
        )
        drafter: Floats = 0.0
        for one in self.techniques:
            if one.technique.weights is not None:
                setting = self._setting(precision, a, asked.sequences)
                drafter = drafter + one.technique.weights(setting, one.given)
        return footprint(self.model, self.device, self.engine, precision, asked, parallel, away, host, drafter)

    def rows(self, label: str, a: Arguments, seen: Mapping[str, Phase]) -> Iterator[OperatorRow]:
        """Operators of the passes that were `seen`, or of all where nobody kept them."""
        for name, phase in (seen or self._passes(label, a, keep=True)).items():
            yield from phase.rows(name)

    def about(self, labels: AnyArray) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "hardware": self.device.name,
            "engine": self.engine.name,
            "precision": ", ".join(self.precision(x).label() for x in sorted({str(label) for label in labels.flat})),
            "memory_rule": self.engine.memory_rule,
            **({"techniques": " + ".join(one.said() for one in self.techniques)} if self.techniques else {}),
        }

    def notes(self, labels: AnyArray, a: Arguments) -> Iterator[str]:
        """What was assumed that the caller did not say, of one precision; and what is computed where it was left beside."""
        precision = self.precision(str(labels.flat[0]))
        if labels.size == 1:
            yield from computed_notes(precision, self.device.name, self.device.arithmetic)
            yield from self.engine.running_on(self.device).notes
        if self.beside is not None and not self.only:
            yield from self.beside.notes(self.away(precision, a))


@by_identity
def without_towers(model: Transformer) -> Transformer:
    """`model` as an engine loads it that keeps towers in files of their own: without them, but for one that lies beside."""
    return replace(model, towers=()) if model.towers and not towers_beside(model) else model


def towers_beside(model: ModelSpec) -> bool:
    """Whether the files of the model hold its towers."""
    return isinstance(model, Transformer) and bool((model.weight_bytes_exact or {}).get("tower"))


def inputs_of(a: Arguments) -> dict[str, Floats]:
    """Inputs of towers beside each prompt, by kind."""
    return {kind: a[kind] for kind in ("image", "clip") if kind in a}


def parallel_of(a: Arguments) -> Parallel:
    return Parallel(a["tp"], a["pp"], a["ep"], a["dp"])


@by_identity
def serving_case(
    model: Transformer,
    device: Device,
    engine: Engine,
    kv: str | None,
    load: str,
    intervals: bool,
    beside: Beside | None = None,
    techniques: tuple[Applied, ...] = (),
    only: str = "",
) -> ServingCase:
    """The case of these records, remembered with what was looked up for it."""
    return ServingCase(model, device, engine, kv, load, intervals, beside, techniques, only)
