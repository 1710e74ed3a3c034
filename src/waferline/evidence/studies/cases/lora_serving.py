"""LoRA serving: Punica's many adapters over one base model.

Many low-rank adapters over one base model: what each batch reads and computes beside the base weights.

Sources: Punica, arXiv:2310.18547, section 4; S-LoRA, arXiv:2311.03285.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check
from waferline.evidence.studies.tolerance import at_most
from waferline.machines.hardware import load_hardware


def adapter_parameters(rank: int, matrices: Sequence[tuple[int, int]], layers: int) -> int:
    """Parameters of one adapter on the given (in, out) matrices of every layer."""
    return layers * rank * sum(fan_in + fan_out for fan_in, fan_out in matrices)


def added_step_s(parameters: float, distinct: int, sequences: int, bytes_per_s: float, flops_per_s: float) -> float:
    """Seconds a decode step grows by at full bandwidth: every distinct adapter is read once, in 16 bits."""
    moved, flops = 2.0 * distinct * parameters, 2.0 * sequences * parameters
    return float(np.maximum(moved / bytes_per_s, flops / flops_per_s))


_HIDDEN, _WIDTH, _LAYERS = 4096, 11008, 32  # Llama-2-7B
_MATRICES = ((_HIDDEN, _HIDDEN),) * 4 + ((_HIDDEN, _WIDTH),) * 2 + ((_WIDTH, _HIDDEN),)


def compute(p: Facts) -> Iterator[Check]:
    device = load_hardware("nvidia-a100-sxm-80gb")
    parameters = adapter_parameters(p["rank"], _MATRICES, _LAYERS)
    setting = (p["sequences"], device.bandwidth_bytes_per_s, device.peak("fp16"))
    limit = at_most(p["added_s"], "law of bandwidth: no step grows by less than its traffic")
    for name, distinct in (("all different", p["sequences"]), ("all alike", 1)):
        added = added_step_s(parameters, distinct, *setting)
        yield Check(f"added to a step of 32 sequences, {name}, at least", "s", p["added_s"], added, limit)
    why = "the baselines' schedulers and the request mix decide it"
    yield Check("throughput over other systems", "×", 12, None, why=why)
