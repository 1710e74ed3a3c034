"""Is every option read? Nonsense in it is refused, and a value that means something changes the answer or is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.fuzz.commands import Line
from benchmarks.fuzz.contract import Ending, run
from benchmarks.fuzz.values import NONSENSE

# Options whose value may be any text: names of files to write, names that only somebody else knows.
# Options that any text is a name, a place or a pattern for.
FREE = ("--tenant", "--out", "--output", "--plot", "--store", "--save", "--profile-out", "--served-model", "--key-env")
# Options that change how an answer is found, how it is shown or where it goes, but not what it says.
BESIDE = (
    "--json",
    "--workers",
    "--threads",
    "--force",
    "--explain",
    "--by",
    "--worst",
    "--tensor",
    "--data",
    "--cluster",
    *FREE,
)
# A value for each option that is none of its defaults and means something to some kind of answer: the command's own, or any's.
TELLING = {
    "--for": "tpot<=20ms", "--and": "most:model", "--budget": "$0.1/h", "--calibrate": "trace.csv", "--slo plan": "p99-ttft=50ms",
    "--precision": "int8", "--kv": "fp8", "--batch": "3", "--prompt": "300", "--output": "77", "--context": "4000000",
    "--memory": "40GB", "--memory-share": "0.8", "--devices": "2", "--tp": "2", "--pp": "2", "--ep": "2", "--dp": "2",
    "--engine": "sglang", "--load": "full", "--concurrency": "3", "--images": "2", "--clips": "2", "--image-size": "512x512",
    "--frames": "9", "--steps": "7", "--offload": "auto", "--host": "epyc-9755", "--with": "eagle:tokens=3", "--phase": "infer",
    "--input-shape": "1x3x64x64", "--assume": "llama-like", "--micro-batch": "2", "--recompute": "full",
    "--strategy": "weight-streaming",
    "--grid": "450x450", "--profile": "profile.yaml", "--kind": "gpu", "--by": "metric", "--worst": "2", "--rate": "3/s",
    "--service": "90ms", "--replicas": "5", "--cv": "0.3", "--slo": "1ms", "--days": "3", "--model": "gpt2",
    "--region": "us-central1",
    "--operator": "google", "--power": "55", "--kwh-price": "0.3", "--device-price": "1000", "--maintenance": "0.1",
    "--save": "9",
    "--clients": "2", "--think": "1", "--trace": "trace.csv", "--requests": "20", "--shared": "64",
    "--arrival": "constant", "--seed": "5",
    "--max-num-seqs": "1", "--max-num-batched-tokens": "128", "--device": "wse3", "--fidelity": "closed", "--colours": "9",
    "--front": "9ms", "--engine-version": "0.11",
    "--sram": "20000", "--algorithm": "cannon", "--format": "fp32", "--accumulate": "fp16", "--reduce": "chain", "--group": "3",
    "--weights": "int8", "--words": "77", "--policy": "concat", "--tensor": "a.weight", "--x": "ttft_s", "--y": "itl_s",
    "--format simulate mesh forward": "fp16", "--temperature": "1.5", "--top-k": "3", "--top-p": "0.5",
    "--max-tokens": "3", "--on": "a100", "--format quantize": "q4_0",
    "--prompt simulate serving": "300", "--tenant plan": "a;prompt=9000", "--requests plan": "4000",
    "--fidelity simulate mesh dequantise": "event", "--sram simulate mesh kv": "40000", "--on predict": "a100",
}  # fmt: skip

_USUAL = {  # what is so anyway in the line that works
    ("--phase", "infer"),  # models without a decoder
    ("--prefix-caching", "--prefix-caching"),  # prompts that share nothing
    ("--async-scheduling", "--async-scheduling"),  # as vLLM starts
}


def nonsense(line: Line) -> Iterator[tuple[Ending, str | None]]:
    """Every option of `line` with a text that it cannot mean, and what is wrong where the command takes it."""
    for option in line.options:
        if not option.is_flag and option.opts[0] not in FREE:
            ending = run([*line.args, option.opts[0], NONSENSE])
            told = NONSENSE in ending.out or "not read here" in ending.out  # in the row of a machine
            yield ending, "nonsense is believed" if ending.code == 0 and not told else None


def silent(line: Line) -> Iterator[tuple[Ending, str | None]]:
    """Every option of `line` with a value that means something, and what is wrong where nothing answers to it."""
    base = run([*line.args, "--json"])
    if line.words[0] in ("measure", "generate", "audit"):  # no two measurements are the same, and audit wants one
        return
    yield base, None if base.code in (0, 3) else "a line that works does not"
    for option in line.options:
        name = option.opts[0]
        if name in BESIDE:
            continue
        given = [name] if option.is_flag else [name, telling(name, line)]
        args = [*_without(line.args, name), *given]
        if sorted(args) == sorted(line.args) or (name, given[-1]) in _USUAL:
            continue
        ending = run([*args, "--json"])
        same = ending.code == base.code and _answer(ending) == _answer(base)
        yield ending, "an option is not read" if same else None


def telling(name: str, line: Line) -> str:
    """A value of an option that means something; two, where nobody has said one."""
    return TELLING.get(f"{name} {' '.join(line.words)}") or TELLING.get(name, "2")


def _without(args: Sequence[str], name: str) -> list[str]:
    """A line without an option and its value."""
    at = args.index(name) if name in args else len(args)
    return [*args[:at], *args[at + 2 :]]


def _answer(ending: Ending) -> Any:
    """What was said, but for what a clock said."""
    return json.loads(ending.out) if ending.out else None
