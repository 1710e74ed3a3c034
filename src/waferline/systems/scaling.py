"""`ScalingModel` and `InferenceScalingModel`: how large a model a budget trains, and what thinking longer costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.predict.result import Field, Result
from waferline.predict.serving import ServingModel, ServingResult
from waferline.units import to_si
from waferline.workloads.scenario import real, whole

TOKENS_PER_PARAMETER = 20.0  # at the optimum (Hoffmann et al. 2022, table 3: 20.2 at 1 B to 21.6 at 10 T parameters)
_FLOPS = 6.0  # a parameter and token: forward, and backward twice that (Kaplan et al. 2020)
_CHINCHILLA = {
    "title": "Hoffmann et al., Training Compute-Optimal Large Language Models, table 3",
    "url": "https://arxiv.org/abs/2203.15556",
    "date": "2022-03-29",
}


class ScalingResult(Result):
    """What `ScalingModel.solve` answers. Every field broadcasts."""

    optimal_parameters = Field("optimal_parameters", "Parameters of the model that the budget trains best, or as asked")
    optimal_tokens = Field("optimal_tokens", "Tokens to train it on")
    compute_budget_flops = Field("compute_flops", "FLOPs of the whole training")
    tokens_per_parameter = Field("tokens_per_parameter", "Their ratio; 20 is the optimum of training alone")


@dataclass(frozen=True, slots=True)
class ScalingModel:
    """C = 6 N D and D = 20 N at the optimum: Hoffmann et al. (2022)."""

    def solve(self, compute_budget: Any, target_model_size: Any = None) -> ScalingResult:
        """The model and tokens of a `compute_budget` in FLOPs (a number, `"1e24 flop"` or a pint quantity; an array).

        target_model_size: parameters, where the model is chosen already: then only the tokens follow.
        Raises: InvalidInputError.
        """
        flops = np.asarray(real("compute_budget", to_si("compute_budget", compute_budget, "flop"), least=1.0))
        size = np.sqrt(flops / (_FLOPS * TOKENS_PER_PARAMETER))
        if target_model_size is not None:
            size = np.asarray(real("target_model_size", target_model_size, least=1.0))
        tokens = flops / (_FLOPS * size)
        return ScalingResult(
            values={
                "optimal_parameters": size,
                "optimal_tokens": tokens,
                "compute_flops": flops,
                "tokens_per_parameter": tokens / size,
            },
            sources=(_CHINCHILLA,),
            not_modelled=("what serving the model will cost", "data that repeats", "mixtures of experts"),
        )


class InferenceScalingResult(Result):
    """What `InferenceScalingModel.solve` answers."""

    total_reasoning_time = Field("total_s", "One question: prompt, thinking and answer")
    ttft = Field("ttft_s", "Until the first token of thought")
    itl = Field("itl_s", "A token, at the mean length of the answer")
    time_per_step = Field("step_s", "One step of reasoning")
    tokens_generated = Field("tokens_generated", "Of all samples")
    energy_per_query = Field("energy_j", "Energy of one question; NaN where the machine's power is not known")
    cost_per_query = Field("cost_usd", "Its share of the machines' hourly price; NaN where that is not known")
    feasible = Field("feasible", "True where all samples fit the memory at their full length")


@dataclass(frozen=True, slots=True)
class InferenceScalingModel:
    """Test-time compute as the engine's own decode: longer thoughts and more samples of one question."""

    def solve(
        self,
        model: Any,
        hardware: Any,
        reasoning_steps: Any = 8,
        context_length: Any = 2048,
        precision: Any = "fp16",
        *,
        tokens_per_step: Any = 256,
        samples: Any = 1,
        **options: Any,
    ) -> InferenceScalingResult:
        """Seconds, energy and cost of one question of `context_length` tokens that is thought about in `reasoning_steps`.

        samples: answers that are drawn at once, as one batch over one prompt each (best of n, self-consistency). The other
        options are those of `ServingModel.solve`. Raises: as that.
        """
        steps = np.asarray(whole("reasoning_steps", reasoning_steps, least=0))
        each = np.asarray(whole("tokens_per_step", tokens_per_step))
        drawn = whole("samples", samples)
        length = steps * each
        served: ServingResult = ServingModel().solve(
            model, hardware, context_length, drawn, precision, output_len=length, **options
        )
        tokens = length * drawn
        total = served["request_s"]
        return InferenceScalingResult(
            values={
                "total_s": total,
                "ttft_s": served["ttft_s"],
                "itl_s": served["itl_s"],
                "step_s": served["itl_s"] * each,
                "tokens_generated": tokens,
                "energy_j": _or_nan(served, "energy_j_per_token") * tokens + _or_nan(served, "prefill_energy_j"),
                "cost_usd": _or_nan(served, "cost_usd_per_mtoken") * tokens / 1e6,
                "feasible": served["feasible"],
            },
            about=dict(served.about),
            sources=served.sources,
            notes=served.notes,
            not_modelled=("how much better longer or more answers are", *served.not_modelled),
        )


def _or_nan(result: Result, key: str) -> Any:
    return result.values.get(key, np.nan)
