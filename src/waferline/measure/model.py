"""`measure model`: a GGUF model really run: prefill and decode, each a measurement, and where the time went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waferline.errors import DoesNotFitError, InvalidInputError
from waferline.kernels.runner import Runner, load, warm_up
from waferline.measure.contract import Check, Outcome, relative_error
from waferline.measure.engine import Cpu, Plan, measure

Progress = Callable[[str], None]

# A prompt is summed in another order one token at a time than all at once, and its int8 activations are rounded anew:
# logits of random weights then differ by some percent. A wrong cache, mask or position differs by their whole size.
TOLERANCE = 0.15
_CHECK_TOKENS = 12  # of the prompt, decoded one by one for the check
_PREFILL_REPEATS, _PREFILL_MOST_S = 7, 60.0
_DECODE_MOST_S = 120.0
_SPARE_TOKENS = 64
_SEED = 7


@dataclass(frozen=True, slots=True)
class ModelResult:
    """Prefill of `prompt` tokens and decode of `output` tokens behind them, one sequence."""

    path: Path
    prompt: int
    output: int
    threads: int
    kv: str
    prefill: Outcome
    decode: Outcome
    prefill_operators_s: Mapping[str, float]  # of one prefill
    decode_operators_s: Mapping[str, float]  # of one step
    weights_bytes_per_token: int

    def to_json(self) -> dict[str, Any]:
        return {
            "model": str(self.path),
            "prompt": self.prompt,
            "output": self.output,
            "threads": self.threads,
            "kv": self.kv,
            "prefill": self.prefill.to_json(),
            "decode": self.decode.to_json(),
            "prefill_operators_s": dict(self.prefill_operators_s),
            "decode_operators_s": dict(self.decode_operators_s),
            "weights_bytes_per_token": self.weights_bytes_per_token,
        }


def measure_model(
    path: Path, *, prompt: int = 512, output: int = 64, threads: int | None = None, kv: str = "f16",
    progress: Progress = lambda what: None,
) -> ModelResult:  # fmt: skip
    """Run the model of a GGUF file on this machine's kernels.

    Raises: FileFormatError for a damaged file, UnsupportedError for a model without kernels, DoesNotFitError when memory
    or its context is too small, InvalidInputError for impossible lengths.
    """
    if prompt < 1 or output < 1:
        raise InvalidInputError(f"{prompt} prompt and {output} output tokens", hint="at least 1 of each")
    progress("loading")
    runner = load(path, context=None, kv=kv, threads=threads)
    needed = prompt + output
    if needed + 1 > runner.config.context:
        raise DoesNotFitError(f"{needed} tokens in a context of {runner.config.context}", where=str(path))
    if needed + _SPARE_TOKENS > runner.cache.slots:
        context = min(runner.config.context, needed + _SPARE_TOKENS)
        del runner
        runner = load(path, context=context, kv=kv, threads=threads)
    progress("compiling")
    warm_up(runner)
    tokens = np.random.default_rng(_SEED).integers(0, runner.config.vocabulary, prompt).tolist()
    progress("prefill")
    prefill, prefill_operators = _prefill(runner, tokens, path)
    progress("decode")
    decode, decode_operators = _decode(runner, tokens, output, path)
    bytes_per_token = runner.weights.file_bytes_per_token
    return ModelResult(
        path, prompt, output, runner.threads, kv, prefill, decode, prefill_operators, decode_operators, bytes_per_token
    )


def _one_by_one(runner: Runner, tokens: list[int]) -> np.ndarray:
    """Logits after `tokens`, decoded one at a time."""
    runner.reset()
    logits = np.zeros(0)
    for token in tokens:
        logits = runner.decode(token)
    return logits.copy()


def _prefix_error(runner: Runner, tokens: list[int]) -> float:
    """How far the prefill of a short prefix lies from decoding it one by one: two kernels, one answer."""
    prefix = tokens[:_CHECK_TOKENS]
    single = _one_by_one(runner, prefix)
    runner.reset()
    return relative_error(runner.prefill(prefix), single)


def _prefill(runner: Runner, tokens: list[int], path: Path) -> tuple[Outcome, dict[str, float]]:
    prefix_error = _prefix_error(runner, tokens)
    runner.reset()
    first = runner.prefill(tokens)
    runs = 0
    runner.reset()

    def begin(call: int) -> tuple[list[int]]:
        runner.cache.tokens = 0  # the operator times are kept
        return (tokens,)

    def run(prompt: list[int]) -> np.ndarray:
        nonlocal runs
        runs += 1
        runner.cache.tokens = 0
        return runner.prefill(prompt)

    def check(logits: np.ndarray) -> Check:
        error = max(prefix_error, relative_error(logits, first))
        return Check("the prompt's start decoded one by one, and the same prompt again", error, TOLERANCE)

    outcome = measure(
        run,
        name=f"prefill {path.name} {len(tokens)} tokens",
        check=check,
        inputs=begin,
        device=Cpu(runner.threads),
        plan=Plan(repeats=_PREFILL_REPEATS, warmups=1, least_s=0.0, most_s=_PREFILL_MOST_S),
        work={"prompt_tokens": float(len(tokens))},
        detail=_detail(runner, path, "prefill", len(tokens), 0),
    )
    return outcome, {name: s / max(1, runs) for name, s in runner.prefill_operators_s.items() if s}


def _decode(runner: Runner, tokens: list[int], output: int, path: Path) -> tuple[Outcome, dict[str, float]]:
    prefix = tokens[:_CHECK_TOKENS]
    runner.reset()
    wanted = runner.prefill([*prefix, 0])
    _one_by_one(runner, prefix)
    error = relative_error(runner.decode(0), wanted)
    runner.reset()
    runner.prefill(tokens)
    steps = 0

    def rewind(call: int) -> tuple[()]:
        if runner.tokens >= len(tokens) + output:
            runner.cache.tokens = len(tokens)  # the prompt is still there; what followed is written again
        return ()

    def run() -> np.ndarray:
        nonlocal steps
        steps += 1
        if runner.tokens >= runner.cache.slots:
            runner.cache.tokens = len(tokens)
        return runner.decode(0)

    def check(logits: np.ndarray) -> Check:
        finite = 0.0 if np.isfinite(logits).all() else np.nan
        return Check("the prompt's start and a token prefilled together", error + finite, TOLERANCE)

    outcome = measure(
        run,
        name=f"decode {path.name} {output} tokens after {len(tokens)}",
        check=check,
        inputs=rewind,
        device=Cpu(runner.threads),
        plan=Plan(repeats=max(5, output), warmups=2, least_s=0.0, most_s=_DECODE_MOST_S),
        work={"output_tokens": 1.0, "bytes": float(runner.weights.file_bytes_per_token)},
        detail=_detail(runner, path, "decode", len(tokens), output),
    )
    return outcome, {name: s / max(1, steps) for name, s in runner.operators_s.items() if s}


def _detail(runner: Runner, path: Path, phase: str, prompt: int, output: int) -> dict[str, Any]:
    formats = main_formats(runner)
    return {
        "model": str(path),
        "threads": runner.threads,
        "formats": formats,
        "evidence": {
            "model": path.stem,
            "phase": phase,
            "weight_format": formats["weights"],
            "activation_format": "int8",
            "kv_format": {"f16": "fp16", "q8": "q8_0"}[runner.cache.kind],
            "batch": 1,
            "input_tokens": prompt,
            "output_tokens": output,
            "devices": 1,
            "tp": 1,
            "pp": 1,
            "ep": 1,
            "dp": 1,
        },
    }


def main_formats(runner: Runner) -> dict[str, str]:
    """Catalogue names of the formats most weights and the output matrix are in."""
    from waferline.formats import get_format

    held: dict[str, int] = {}
    for tensor in runner.file.tensors:
        if len(tensor.shape) >= 2 and tensor.name.startswith("blk."):
            held[tensor.format] = held.get(tensor.format, 0) + int(np.prod(tensor.shape))
    names = {t.name: t.format for t in runner.file.tensors}
    head = names.get("output.weight", names["token_embd.weight"])
    return {"weights": get_format(max(held, key=lambda f: held[f])).name, "head": get_format(head).name}
