"""Options and arguments that several commands share, each declared once, and completion of names.

A command's parameter is annotated with one of these (`batch: Batch = (1,)`); what it means is said here.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from waferline.catalog.yaml_file import read_packaged

_NUMBER = re.compile(r"(-?\d+)(k|K|Ki|M|Mi)?")
_SCALE = {"": 1, "k": 1000, "M": 1_000_000, "K": 1024, "Ki": 1024, "Mi": 1_048_576}
_MOST_DIGITS = 18


class Counts(tuple[int, ...]):
    """One or several whole numbers: a table has a line for each."""


def counts(text: Any) -> Counts:
    """`1,8,64` as numbers; `32k` is 32,000 and `32K` or `32Ki` 32,768, as vLLM reads them."""
    if not isinstance(text, str):
        return Counts(text if isinstance(text, tuple) else (text,))
    values = []
    for part in text.split(","):
        match = _NUMBER.fullmatch(part.strip())
        if match is None or not part.isascii() or len(part) > _MOST_DIGITS:
            raise typer.BadParameter(
                "not a whole number, nor several separated by commas; 32k and 32Ki are numbers, too"
            )
        values.append(int(match[1]) * _SCALE[match[2] or ""])
    return Counts(values)


def single(values: Counts | None, option: str) -> int | None:
    """The only value of an option that may have several elsewhere."""
    if values is None:
        return None
    if len(values) != 1:
        raise typer.BadParameter(f"takes one value here, got {len(values)}", param_hint=option)
    return values[0]


def completing(module: str, function: str) -> Callable[[str], list[str]]:
    """Completion from a function that lists names, imported when a shell asks."""

    def complete(incomplete: str) -> list[str]:
        names = getattr(importlib.import_module(module), function)()
        return [name for name in names if name.startswith(incomplete.lower())]

    return complete


def names(option: str, text: str | None) -> list[str | None]:
    """Names separated by commas; None, which is the usual one, where nobody says."""
    if text is None:
        return [None]
    found: list[str | None] = [part.strip() for part in text.split(",")]
    if not all(found):
        raise typer.BadParameter(f"a name is empty in '{text}'; separate several by commas", param_hint=option)
    return found


def machine(name: str) -> object:
    """What `--on` means: the measured machine at hand for `this`, else the name or path as it is."""
    if name != "this":
        return name
    from waferline.measure.machine_file import this_machine

    return this_machine()


complete_model = completing("waferline.workloads.models", "model_names")
complete_machine = completing("waferline.machines.hardware", "hardware_names")
complete_format = completing("waferline.formats", "format_names")
complete_engine = completing("waferline.predict.engine", "engine_names")
complete_study = completing("waferline.evidence.studies.registry", "study_names")

_MODEL_HELP = "A catalogue name, a Hugging Face config.json, a GGUF file, or a network: .onnx, .tflite, .pt2."
_MACHINE_HELP = "A machine of the catalogue, a YAML file, or 'this' once measured."
_ENGINES = ", ".join(sorted(read_packaged("engines.yaml")["engines"]))
_STACKS = ", ".join(sorted(read_packaged("training_stacks.yaml")["stacks"]))

# What runs where
Model = Annotated[str, typer.Argument(help=_MODEL_HELP, autocompletion=complete_model)]
On = Annotated[str, typer.Option("--on", help=_MACHINE_HELP, autocompletion=complete_machine)]
OnMeasured = Annotated[
    str | None,
    typer.Option("--on", help=f"{_MACHINE_HELP}  [default: this]", autocompletion=complete_machine),
]
Machines = Annotated[str, typer.Option("--on", help="Machines, separated by commas.", autocompletion=complete_machine)]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision", "-p", help="fp16, int4, w8a8, q4_k_m, 'w=fp8,kv=fp8', ...", autocompletion=complete_format
    ),
]
Kv = Annotated[
    str | None,
    typer.Option("--kv", help="Format of the KV cache; 16 bits by default.", autocompletion=complete_format),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine", help=f"{_ENGINES}; each kind of machine's usual one by default.", autocompletion=complete_engine
    ),
]
Profile = Annotated[str | None, typer.Option("--profile", help="A calibration made by `waferline calibrate`.")]

# How much of it
Batch = Annotated[
    Counts | None,
    typer.Option(
        "--batch", parser=counts, metavar="N[,N...]", help="Sequences (or inputs) at once; a line each.  [default: 1]"
    ),
]
Prompt = Annotated[
    Counts | None,
    typer.Option(
        "--prompt",
        parser=counts,
        metavar="N[,N...]",
        help="Prompt tokens (or tokens per input): 2048, 32k, 32Ki.  [default: 2048]",
    ),
]
Output = Annotated[
    Counts | None,
    typer.Option(
        "--output", parser=counts, metavar="N[,N...]", help="Tokens generated for each sequence.  [default: 256]"
    ),
]
Assume = Annotated[
    str | None, typer.Option("--assume", help="llama-like: read a configuration of an unknown model_type as a Llama.")
]
InputShape = Annotated[
    str | None,
    typer.Option("--input-shape", help="Sizes that a network's file leaves open: 1x3x224x224, or NAME=SHAPE,..."),
]
Phase = Annotated[str, typer.Option("--phase", help="serve (prefill and decode), infer (one pass) or train.")]
Load = Annotated[
    str | None,
    typer.Option(
        "--load",
        help="static (one batch), closed or burst (BATCH clients), full (a queue that never empties).  [default: static]",
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", help="Under load: sequences that run at once, beside what memory and engine allow."),
]
Images = Annotated[int | None, typer.Option("--images", min=0, help="Images beside each prompt.  [default: none]")]
Clips = Annotated[int | None, typer.Option("--clips", min=0, help="Audio clips (30 s) beside each prompt.")]
ImageSize = Annotated[
    str | None, typer.Option("--image-size", metavar="WxH", help="Pixels of an image that is read or made: 1024x1024.")
]
Frames = Annotated[int | None, typer.Option("--frames", min=1, help="Frames of a video that is made.")]
Ring = Annotated[
    int | None,
    typer.Option(
        "--ring", min=1, help="Of the devices that share an image, those among which keys and values go round."
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Denoising steps of a diffusion model.")]

# In how much memory
Memory = Annotated[
    str | None,
    typer.Option("--memory", help="Memory of each device, where it is sold with several sizes: 64GB."),
]
CpuThreads = Annotated[
    int | None,
    typer.Option("--threads", help="Cores of a CPU that work.  [default: all]"),
]
MemoryShare = Annotated[
    float | None,
    typer.Option("--memory-share", help="Share of it that the engine takes: 0.95.  [default: the engine's own]"),
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        parser=lambda text: single(counts(text), "--context"),
        metavar="N",
        help="Tokens that each sequence may grow to: 32k.  [default: prompt and output]",
    ),
]

# Over how many devices
Devices = Annotated[str | None, typer.Option("--devices", help="A number, or 'auto' for the fewest that fit.")]
Tp = Annotated[int | None, typer.Option("--tp", help="Tensor-parallel degree.")]
Pp = Annotated[int | None, typer.Option("--pp", help="Pipeline-parallel degree.")]
Ep = Annotated[int | None, typer.Option("--ep", help="Expert-parallel degree.")]
Dp = Annotated[int | None, typer.Option("--dp", help="Data-parallel replicas.")]
Strategy = Annotated[
    str | None,
    typer.Option("--strategy", help="Wafers: wafer-resident or weight-streaming.  [default: wafer-resident]"),
]
Grid = Annotated[
    str | None,
    typer.Option("--grid", help="Wafers: cores of a square region, such as 360x360.  [default: the fastest that fits]"),
]

# What does not stay on the device
Offload = Annotated[
    str | None,
    typer.Option(
        "--offload",
        help="What a CPU beside the device holds: experts, experts=36 (of the first layers), layers=20 (llama.cpp's -ngl: these "
        "stay), cpu-layers=12, kv, weights=10GB (read over the link), auto.",
    ),
]
Host = Annotated[
    str | None,
    typer.Option(
        "--host", help="That CPU: a machine or a file.  [default: a usual one]", autocompletion=complete_machine
    ),
]

With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="NAME[:key=value,...]",
        help="A technique, such as prefix-cache:hit=0.6; may be repeated, in its order. `waferline techniques` lists them.",
    ),
]

# Training
MicroBatch = Annotated[int | None, typer.Option("--micro-batch", help="Training: sequences per micro-batch.")]
Slices = Annotated[
    int | None,
    typer.Option("--slices", help="Training: equal groups of devices that only a data centre network joins."),
]
VirtualStages = Annotated[
    int | None, typer.Option("--virtual-stages", help="Training: pieces of each pipeline stage, interleaved.")
]
Recompute = Annotated[str | None, typer.Option("--recompute", help="Training: none, selective, half or full.")]
Sharding = Annotated[
    str | None,
    typer.Option("--sharding", help="Training: none, zero1 (optimizer state) or fsdp (everything).  [default: zero1]"),
]
Trains = Annotated[
    str | None,
    typer.Option("--trains", help="Training: weights, or adapters beside frozen ones (LoRA).  [default: weights]"),
]
Stack = Annotated[
    str | None, typer.Option("--stack", help=f"Training: {_STACKS}; the usual one for the precision by default.")
]

# What is read and written
Shared = Annotated[
    Path | None,
    typer.Option("--shared", help="Folder with the full collection.  [default: $WAFERLINE_SHARED, ../shared]"),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads.  [default: all cores]")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw it into this .html, .png or .svg file.")]
Explain = Annotated[bool, typer.Option("--explain", help="Show every operator: time, share and binding roof.")]
Json = Annotated[bool, typer.Option("--json", help="Print data instead of tables.")]
