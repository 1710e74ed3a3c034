"""Speculative decoding: several tokens out of one pass of the large model."""

from __future__ import annotations

from collections.abc import Iterator

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import absolute, printed


def compute() -> Iterator[Check]:
    import numpy as np

    from waferline.evidence.studies.facts import facts
    from waferline.techniques.speculative_decoding import operations, output_distribution, speed_up

    for row in facts("techniques")["speculative"]:
        setting = (row["acceptance"], row["drafted"])
        name = f"acceptance {row['acceptance']}, {row['drafted']} drafted"
        yield Check(f"{name}: speed", "×", float(row["speed"]), float(speed_up(*setting)), printed(row["speed"]))
        ours = float(operations(*setting))
        yield Check(f"{name}: operations", "×", float(row["operations"]), ours, printed(row["operations"]))
    rng = np.random.default_rng(0)
    target, draft = rng.dirichlet(np.ones(50), 100), rng.dirichlet(np.ones(50), 100)
    error = float(np.abs(output_distribution(target, draft) - target).max())
    yield Check("output distribution against the target's", "max error", 0.0, error, absolute(1e-12, "exact"))
    why = "acceptance, costs and machines of served systems are not stated together"
    yield Check("speed-ups in serving", "×", None, None, why=why)


STUDY = Study(
    name="speculative-decoding",
    title="Fast inference from transformers via speculative decoding",
    source=Source("https://arxiv.org/abs/2211.17192", "2022-11-30"),
    claim="two to three times faster with the very same output distribution",
    configuration={"draft": "costs nothing, as in Table 1", "checked": "expected speed, arithmetic, exactness"},
    compute=compute,
)
