"""Rows of language models on a wafer, put to the model that holds all weights in its cores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from waferline.evidence.answer import VARIANTS, Answer, answers
from waferline.evidence.metrics import READERS, Sizes, Times
from waferline.evidence.names import model_spec
from waferline.evidence.request import Request
from waferline.predict.run import run
from waferline.predict.scenario import Scenario

_TIMES = {  # of a prompt and of a token
    "value": ("ttft_s", "itl_s"),
    "low90": ("ttft_low_s", "itl_low_s"),
    "high90": ("ttft_high_s", "itl_high_s"),
    "light": ("light_ttft_s", "light_itl_s"),
}


def ask_wafer(requests: Sequence[Request]) -> list[Answer]:
    """Answers one by one: each row has a grid of its own. Raises: any WaferlineError of the model, for the whole group."""
    return [_answer(r) for r in requests]


def _answer(r: Request) -> Answer:
    scenario = Scenario(
        model=model_spec(r.model), machine=r.machine, precision=r.precision, kv=r.kv, batch=r.batch, prompt=r.input_tokens,
        output=max(r.output_tokens, 1.0), grid=r.variant or None, strategy="wafer-resident",
    )  # fmt: skip
    result = run(scenario).result
    batch, prompt, output = (np.array([x]) for x in (r.batch, r.input_tokens, r.output_tokens))
    sizes = Sizes(batch, prompt, output)
    values = {
        variant: READERS[r.answer](Times(*(np.array([float(result[name])]) for name in _TIMES[variant])), sizes)
        for variant in VARIANTS
    }
    return answers(values, ["predicted"], [()])[0]
