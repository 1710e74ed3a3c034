"""LoRA serving: Punica's many adapters over one base model, as the technique `lora` prices them.

Sources: Punica, arXiv:2310.18547, section 4; S-LoRA, arXiv:2311.03285.
"""

from __future__ import annotations

from collections.abc import Iterator

from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check
from waferline.evidence.studies.tolerance import SEEN, relative
from waferline.predict.serving import ServingModel

_ADDED = 0.25


def compute(p: Facts) -> Iterator[Check]:
    def step_s(technique: str | None = None) -> float:
        sizes = {"seq_len": p["prompt"], "batch_size": p["sequences"], "output_len": p["output"], "precision": "fp16"}
        found = ServingModel().solve(p["model"], p["machine"], engine=p["engine"], techniques=technique, **sizes)
        return float(found["itl_s"])

    plain = step_s()
    added = step_s(f"lora:adapters={p['sequences']},rank={p['rank']}") - plain
    name = f"added to a step of {p['sequences']} sequences, all different"
    yield Check(name, "s", p["added_s"], added, relative(_ADDED, SEEN))
    alike = step_s(f"lora:adapters=1,rank={p['rank']}") - plain
    yield Check("the same, all alike", "s", None, alike, None, why="the abstract gives one figure for all mixes")
    why = "the baselines' schedulers and the request mix decide it"
    yield Check("throughput over other systems", "×", 12, None, why=why)
