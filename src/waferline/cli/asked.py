"""The options of a question: one row for each field of `Scenario`, in the order in which help shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waferline.cli import options
from waferline.cli.taking import Options

# Field of `Scenario` → its option. What every question has (model, machine) and what only Python asks (intervals) is not here.
QUESTION: Mapping[str, Any] = {
    "precision": options.Precision,
    "kv": options.Kv,
    "batch": options.Batch,
    "prompt": options.Prompt,
    "output": options.Output,
    "context": options.Context,
    "memory": options.Memory,
    "memory_share": options.MemoryShare,
    "threads": options.CpuThreads,
    "devices": options.Devices,
    "tp": options.Tp,
    "pp": options.Pp,
    "ep": options.Ep,
    "dp": options.Dp,
    "engine": options.Engine,
    "load": options.Load,
    "concurrency": options.Concurrency,
    "images": options.Images,
    "clips": options.Clips,
    "image_size": options.ImageSize,
    "frames": options.Frames,
    "steps": options.Steps,
    "ring": options.Ring,
    "offload": options.Offload,
    "host": options.Host,
    "techniques": options.With,
    "phase": options.Phase,
    "input_shape": options.InputShape,
    "assume": options.Assume,
    "micro_batch": options.MicroBatch,
    "virtual_stages": options.VirtualStages,
    "slices": options.Slices,
    "recompute": options.Recompute,
    "sharding": options.Sharding,
    "trains": options.Trains,
    "stack": options.Stack,
    "strategy": options.Strategy,
    "grid": options.Grid,
    "profile": options.Profile,
}
_USUAL = {"phase": "serve"}
_SEVERAL = ("batch", "prompt", "output")


def question(*only: str, several: bool = False) -> Options:
    """The options of a question (all, unless some are named) as fields of `Scenario` by name.

    several: batch, prompt and output may have several values each.
    """
    rows = {name: (kind, _USUAL.get(name)) for name, kind in QUESTION.items() if not only or name in only}

    def made(**asked: Any) -> dict[str, Any]:
        if not several:
            asked |= {name: options.single(asked[name], f"--{name}") for name in _SEVERAL if name in rows}
        if asked.get("host") is not None:
            asked["host"] = options.machine(asked["host"])
        return asked

    return Options(rows, made)
