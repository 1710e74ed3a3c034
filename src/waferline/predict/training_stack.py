"""Training frameworks as facts: how much longer their operators take than the same operators measured alone."""

from __future__ import annotations

from dataclasses import dataclass

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import unknown

_FILE = "training_stacks.yaml"
_ANY = "any"
_DEFAULTS = {"fsdp": "llm-foundry", "zero1": "megatron-bridge", "none": "megatron-bridge"}  # by sharding


@dataclass(frozen=True, slots=True)
class Stack:
    """Factors on expected operator times, with the residual quantiles (log measured / predicted) of the rows left out."""

    operators: float
    attention: float
    log_q: tuple[float, ...] = ()


def stack_names() -> list[str]:
    return sorted(read_packaged(_FILE)["stacks"])


def get_stack(name: str | None, architecture: str, sharding: str) -> Stack:
    """The factors of framework `name` on an architecture; without a name those of the usual framework for `sharding`.

    Raises: UnknownNameError with the nearest valid names.
    """
    stacks = read_packaged(_FILE)["stacks"]
    if name is None:
        name = _DEFAULTS[sharding] if _DEFAULTS[sharding] in stacks else "none"
    if name not in stacks:
        raise unknown("training stack", name, stacks)
    row = stacks[name].get(architecture, stacks[name][_ANY])
    return Stack(float(row["operators"]), float(row["attention"]), tuple(row.get("log_q", ())))
