"""LoRA serving: Punica's many adapters over one base model."""

from __future__ import annotations

from collections.abc import Iterator

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import at_most

_HIDDEN, _WIDTH, _LAYERS = 4096, 11008, 32  # Llama-2-7B
_MATRICES = ((_HIDDEN, _HIDDEN),) * 4 + ((_HIDDEN, _WIDTH),) * 2 + ((_WIDTH, _HIDDEN),)


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts
    from waferline.machines.hardware import load_hardware
    from waferline.techniques.lora_serving import adapter_parameters, added_step_s

    p = facts("techniques")["punica"]
    device = load_hardware("nvidia-a100-sxm-80gb")
    parameters = adapter_parameters(p["rank"], _MATRICES, _LAYERS)
    setting = (p["sequences"], device.bandwidth_bytes_per_s, device.peak("fp16"))
    limit = at_most(p["added_s"], "law of bandwidth: no step grows by less than its traffic")
    for name, distinct in (("all different", p["sequences"]), ("all alike", 1)):
        added = added_step_s(parameters, distinct, *setting)
        yield Check(f"added to a step of 32 sequences, {name}, at least", "s", p["added_s"], added, limit)
    why = "the baselines' schedulers and the request mix decide it"
    yield Check("throughput over other systems", "×", 12, None, why=why)


STUDY = Study(
    name="lora-serving",
    title="Punica: multi-tenant LoRA serving",
    source=Source("https://arxiv.org/abs/2310.18547", "2023-10-28"),
    claim="12 times the throughput of other systems with many adapters, for 2 ms more a token",
    configuration={"model": "Llama-2-7B, rank 16 on all seven matrices", "machine": "A100 80 GB", "batch": "32"},
    compute=compute,
    note="checked as a bound: the traffic of the adapters alone",
)
