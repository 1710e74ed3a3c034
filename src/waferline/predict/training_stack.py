"""Training frameworks as facts: how much longer their operators take than the same operators measured alone."""

from __future__ import annotations

from dataclasses import dataclass

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import unknown

_FILE = "training_stacks.yaml"
_ANY = "any"
# The framework whose published steps are of such a job, by the bits of what is multiplied: constants stay with formats they ran in.
_USUAL = {16: "llm-foundry", 8: "megatron-bridge"}


@dataclass(frozen=True, slots=True)
class Stack:
    """Factors on expected operator times, with the residual quantiles (log measured / predicted) of the rows left out."""

    name: str
    operators: float
    attention: float
    log_q: tuple[float, ...] = ()


def stack_names() -> list[str]:
    return sorted(read_packaged(_FILE)["stacks"])


def get_stack(name: str | None, architecture: str, bits: float) -> Stack:
    """The factors of framework `name` on an architecture; without a name those of the usual one for numbers of `bits`.

    Raises: UnknownNameError with the nearest valid names.
    """
    stacks = read_packaged(_FILE)["stacks"]
    if name is None:
        usual = _USUAL[16 if bits > 8 else 8]
        name = usual if usual in stacks else "none"
    if name not in stacks:
        raise unknown("training stack", name, stacks)
    row = stacks[name].get(architecture, stacks[name][_ANY])
    return Stack(name, float(row["operators"]), float(row["attention"]), tuple(row.get("log_q", ())))
