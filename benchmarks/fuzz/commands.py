"""Every command from the tree of commands itself, a line of it that works, and what each option could be given."""

from __future__ import annotations

import random
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.fuzz.places import CLAIM
from benchmarks.fuzz.values import EVERY

# What an argument or option that a command must have is given in its working line: `command parameter`, or the parameter alone.
SAMPLES = {
    "model": "llama-3-8b", "on": "h100", "machine": "l4", "study": "study.yaml", "out": "points-out.parquet",
    "points": "points.parquet",
    "x": "itl_s", "y": "ttft_s", "rate": "20/s", "service": "150ms", "prompt": "!!", "source": "rows.csv", "file": "rows.csv",
    "output": "out.csv", "format": "q8_0", "shape": "64x64x64", "grid": "8x8", "name": "gpt2", "url": "http://127.0.0.1:1",
    "folder": "h100_gemm.csv", "claim": CLAIM, "ttft": "500ms", "tpot": "50ms", "metric": "itl_s", "target": "itl_s",
    "generate model": "model.gguf", "quantize file": "tensors.safetensors", "quantize output": "out.gguf",
    "simulate mesh gemv shape": "64x64",
    "simulate mesh dequantise shape": "64x256", "simulate mesh kv grid": "410x410", "measure operator name": "gemv",
    "measure operator shape": "64x256", "measure model file": "model.gguf", "measure page output": "page.md",
    "formats error file": "tensors.safetensors", "catalog hardware name": "h100", "catalog formats name": "fp16",
    "techniques name": "eagle", "solve field": "batch", "goals": "tpot<=50ms",
}  # fmt: skip
# What a working line gives beside what it must: so that one case takes a moment and touches nothing outside its folder.
BESIDE = {
    "simulate serving": "--rate 20/s --requests 50 --prompt 100 --output 10",
    "serve": "--rate 20/s --requests 50 --prompt 100 --output 10",
    "measure machine": "--save this.yaml --budget 1e-9",
    "measure operator": "--store kept.jsonl --threads 1 --repeats 5",
    "measure model": "--store kept.jsonl --threads 1 --prompt 4 --output 2",
    "measure resident": "--store kept.jsonl --reps 5",
    "measure server": "--store kept.jsonl --timeout 2",
    "measure export": "--store store.jsonl",
    "evidence report": "--shared shared --out report",
    "claim survey": "--shared shared",
    "generate": "--max-tokens 2 --threads 1",
    "quantize": "--force",
    "queue": "--replicas 4",
    "plan": "llama-3-8b --rate 2/s --prompt 100 --output 10 --slo p99-ttft=2s",
    "study run": "moe-lens",
}
# Work that lasts: a few cases of each in a run, whatever the seed says.
LASTING = (
    "measure machine",
    "measure operator",
    "measure resident",
    "measure page",
    "evidence report",
    "claim survey",
    "study run",
    "measure model",
)
# More working lines of commands whose options mean other things to other kinds of model and machine.
WAYS = (
    "predict resnet-50 --on a100",
    "predict llama-3-8b --on h100 --phase train --devices 8",
    "predict llama-3-8b --on h100 --phase infer",
    "predict llama-3-8b --on cs3",
    "predict llama-3-8b --on cs3 --strategy weight-streaming",
    "predict mixtral-8x7b --on h100 --devices 4",
    "predict model/config.json --on machine.yaml",
    "predict model.gguf --on m2-ultra",
    "predict llama-3-8b --on l4 --load closed --batch 8 --profile profile.yaml",
    "predict qwen3-30b-a3b --on rtx-4090 --offload experts --precision q4_k_m",
    "predict fc-autoencoder --on esp32-s3",
    "compare resnet-50 --on a100,l4",
    "compare llama-3-8b --on h100,cs3",
)


@dataclass(frozen=True, slots=True)
class Line:
    """A command line that works: the words of its command, what they must be followed by, and its options."""

    words: tuple[str, ...]
    given: tuple[str, ...]
    arguments: tuple[str, ...]  # values of `given` that are arguments
    options: tuple[Any, ...]

    @property
    def args(self) -> tuple[str, ...]:
        return (*self.words, *self.given)


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """(words, command) of every command, from the tree that the command line itself is made of."""
    from waferline.cli.app import tree

    def below(node: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, child in sorted(getattr(node, "commands", {}).items()):
            yield from below(child, (*words, name))
        if not hasattr(node, "commands"):
            yield words, node

    return below(tree(), ())


def lines() -> list[Line]:
    """A working line of every command, and those of `WAYS`. Raises: KeyError for a parameter without a sample."""
    found = {
        words: _line(words, command) for words, command in commands() if words != ("app",)
    }  # it ends with Ctrl-C only
    ways = [shlex.split(way) for way in WAYS]
    more = [replace(found[(w[0],)], given=tuple(w[1:]), arguments=(w[1],)) for w in ways]
    return [*found.values(), *more]


def _line(words: tuple[str, ...], command: Any) -> Line:
    name, given, arguments = " ".join(words), [], []
    for p in command.params:
        if not p.required:
            continue
        sample = SAMPLES.get(f"{name} {p.name}") or SAMPLES[p.name]
        argument = p.param_type_name == "argument"
        given += [sample] if argument else [p.opts[0], sample]
        arguments += [sample] if argument else []
    given += shlex.split(BESIDE.get(name, ""))
    return Line(
        words, tuple(given), tuple(arguments), tuple(p for p in command.params if p.param_type_name != "argument")
    )


def case(draw: random.Random, among: list[Line]) -> list[str]:
    """A working line with one to three things spoilt: a value, an argument, an option too many or one missing."""
    line = draw.choice(among)
    args = list(line.args)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        if line.arguments and draw.random() < 0.15:
            at = draw.choice([i for i, a in enumerate(args) if a in line.arguments] or [len(args) - 1])
            args[at] = draw.choice(EVERY)
        else:
            args += _spoilt(draw, draw.choice(line.options))
    if draw.random() < 0.05:
        del args[draw.randrange(len(line.words), len(args))]
    if draw.random() < 0.05:
        args.append(draw.choice(EVERY))
    return args + draw.choice(([], ["--json"]))


def _spoilt(draw: random.Random, option: Any) -> list[str]:
    name = draw.choice([*option.opts, *option.secondary_opts])
    return [name] if option.is_flag else [name, draw.choice(EVERY)]
