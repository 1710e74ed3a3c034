"""The time of one engine step as one callable: what a request-level simulator asks at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.formats import Precision
from waferline.machines.device import Device
from waferline.predict.engine import Engine
from waferline.predict.phase import run_phase
from waferline.predict.roofline import Machine
from waferline.workloads.lower import lower_decode, lower_prefill
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Transformer


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of a step that decodes one token for some sequences and reads a chunk of prompts beside them.

    A mixed step is the sum of its two parts with the host's fixed time once (chunked prefill, arXiv:2403.02310).
    """

    model: Transformer
    device: Device
    engine: Engine
    precision: Precision
    parallel: Parallel

    def __call__(self, decoding: Any, context: Any, prompt_tokens: Any = 0, cached: Any = 0) -> FloatArray:
        """Seconds, broadcast over all arguments.

        decoding: sequences that get a token; context: their mean length; prompt_tokens: new prompt tokens of the step,
        in one chunk after `cached` tokens. A step with nothing to do takes no time.
        """
        decoding, prompt = np.asarray(decoding, dtype=float), np.asarray(prompt_tokens, dtype=float)
        cached = np.asarray(cached, dtype=float)
        machine = Machine(self.device, self.engine.kernels)
        layers = float(sum(b.count for b in self.model.blocks))
        model, formats, parallel = self.model, self.precision, self.parallel
        one = np.maximum(decoding, 1.0)
        decode = lower_decode(model, batch=one, context=context, precision=formats, parallel=parallel)
        chunk = np.maximum(prompt, 1.0)
        prefill = lower_prefill(model, batch=1, prompt=chunk, cached=cached, precision=formats, parallel=parallel)
        decode_s = run_phase(decode, machine, self.engine, layers=layers, sequences=decoding).time_s
        prefill_s = run_phase(prefill, machine, self.engine, layers=layers).time_s
        fixed_s = self.engine.running_on(self.device).step_s
        both = (decoding > 0) & (prompt > 0)
        total = np.where(decoding > 0, decode_s, 0.0) + np.where(prompt > 0, prefill_s, 0.0)
        return np.asarray(total - np.where(both, fixed_s, 0.0))


def step_time(
    model: Any,
    hardware: Any,
    precision: str = "fp16",
    *,
    engine: str | None = None,
    kv: str | None = None,
    tp: Any = 1,
    pp: Any = 1,
    ep: Any = 1,
) -> StepTime:
    """The step time of one replica. Raises: UnknownNameError, UnsupportedError, InvalidInputError."""
    from waferline.errors import InvalidInputError
    from waferline.formats import resolve
    from waferline.predict.engine import default_engine, get_engine
    from waferline.predict.inputs import as_device, as_model

    spec, device = as_model(model), as_device(hardware)
    if not isinstance(spec, Transformer) or not spec.has_head:
        raise InvalidInputError(f"{spec.name} does not generate tokens")
    runner = default_engine(device) if engine is None else get_engine(engine)
    return StepTime(spec, device, runner, resolve(precision, device.arithmetic, kv=kv), Parallel.of(tp, pp, ep, 1))
