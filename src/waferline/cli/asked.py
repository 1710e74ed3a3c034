"""The options of a question: one row for each field of `Scenario`, in the order in which help shows them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, get_type_hints

from waferline.cli import options

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
    "stack": options.Stack,
    "strategy": options.Strategy,
    "grid": options.Grid,
    "profile": options.Profile,
}
_USUAL = {"phase": "serve"}
_SEVERAL = ("batch", "prompt", "output")


def asks(*only: str, several: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command these options of a question (all, unless some are named), which it takes as one argument, `asked`:
    fields of `Scenario` by name. several: batch, prompt and output may have several values each."""
    rows = {name: kind for name, kind in QUESTION.items() if not only or name in only}

    def give(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "asked"]
        hints = get_type_hints(command, include_extras=True)

        @wraps(command)
        def run(**given: Any) -> None:
            asked = {name: given.pop(name) for name in rows}
            if not several:
                asked |= {name: options.single(asked[name], f"--{name}") for name in _SEVERAL if name in rows}
            if asked.get("host") is not None:
                asked["host"] = options.machine(asked["host"])
            command(asked=asked, **given)

        def parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
            return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)

        asking = [parameter(name, kind, _USUAL.get(name)) for name, kind in rows.items()]
        needed = [parameter(p.name, hints[p.name], p.default) for p in own if p.default is p.empty]
        rest = [parameter(p.name, hints[p.name], p.default) for p in own if p.default is not p.empty]
        run.__signature__ = inspect.Signature([*needed, *asking, *rest])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*needed, *asking, *rest)}
        return run

    return give
