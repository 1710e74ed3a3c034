"""`ContinuousBatchingModel` and `BatchingOptimizer`: what a server that batches as requests come holds and reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError
from waferline.predict.result import Field
from waferline.predict.serving import ServingModel, ServingResult
from waferline.workloads.scenario import real, whole


class ContinuousBatchingResult(ServingResult):
    """What `ContinuousBatchingModel.solve` answers: a served model under a queue that never empties."""

    throughput_tokens_per_sec = Field("loaded_throughput_tokens_per_s", "Generated tokens a second, a bare number", "")
    max_active_requests = Field("max_batch_size", "Sequences that fit at once")
    speedup_vs_static = Field("speedup_vs_static", "Over batches that all wait for their longest answer")


@dataclass(frozen=True, slots=True)
class ContinuousBatchingModel:
    """`ServingModel` under full load (Orca 2022): a request that is done makes room for the next at once."""

    def solve(
        self,
        model: Any,
        hardware: Any,
        seq_len: Any,
        max_batch_size: Any = None,
        precision: str = "fp16",
        *,
        output_len: Any = 256,
        **options: Any,
    ) -> ContinuousBatchingResult:
        """Prompts of `seq_len` and answers of `output_len` tokens, at most `max_batch_size` sequences at once.

        speedup_vs_static compares answers of exponential length: a static batch of n waits for its longest, H(n) times the
        mean. Other options are those of `ServingModel.solve`. Raises: as that.
        """
        limit: dict[str, Any] = (
            {} if max_batch_size is None else {"concurrency": whole("max_batch_size", max_batch_size)}
        )
        r = ServingModel().solve(
            model, hardware, seq_len, 1, precision, output_len=output_len, load="full", **limit, **options
        )
        running = np.maximum(
            1.0, np.minimum(r["running_sequences"] if "running_sequences" in r else r["max_batch_size"], 1e6)
        )
        longest = np.log(running) + np.euler_gamma + 1 / (2 * running)  # the harmonic number of so many answers
        return ContinuousBatchingResult(
            values={**r.values, "speedup_vs_static": np.where(running > 1, longest, 1.0)},
            coords=r.coords,
            about=r.about,
            operators=r.operators,
            sources=r.sources,
            notes=r.notes,
            not_modelled=r.not_modelled,
        )


@dataclass(frozen=True, slots=True)
class BatchingOptimizerResult:
    """The batch that holds the goal with most tokens a second. is_feasible: False where not even one sequence holds it."""

    best_batch_size: int
    max_throughput: float
    tpot_s: float
    utilization: float
    is_feasible: bool


@dataclass(frozen=True, slots=True)
class BatchingOptimizer:
    """The largest batch whose token time holds a goal: throughput rises with the batch, and so does the time."""

    def solve(
        self,
        model: Any,
        hardware: Any,
        seq_len: Any,
        sla_latency_ms: float,
        arrival_rate_qps: float = 0.0,
        num_replicas: int = 1,
        precision: str = "fp16",
        *,
        output_len: int = 256,
        max_search_batch: int = 256,
        **options: Any,
    ) -> BatchingOptimizerResult:
        """Best batch of one replica for a time per output token of `sla_latency_ms`, and how busy `arrival_rate_qps` keeps them.

        Other options are those of `ServingModel.solve`. Raises: as that, and InvalidInputError for an array.
        """
        goal = real("sla_latency_ms", sla_latency_ms, least=1e-6)
        if not isinstance(goal, float):
            raise InvalidInputError("sla_latency_ms is one number, not an array")
        batches = np.arange(1, int(np.max(whole("max_search_batch", max_search_batch))) + 1)
        r = ServingModel().solve(
            model, hardware, seq_len, batches, precision, output_len=output_len, intervals=False, **options
        )
        holds = np.asarray(r["feasible"]) & (r["itl_s"] * 1e3 <= goal)
        best = int(np.flatnonzero(holds)[-1]) if holds.any() else 0
        requests_per_s = float(batches[best] / r["request_s"][best]) * int(np.max(whole("num_replicas", num_replicas)))
        return BatchingOptimizerResult(
            int(batches[best]),
            float(r["throughput_tokens_per_s"][best]),
            float(r["itl_s"][best]),
            float(real("arrival_rate_qps", arrival_rate_qps)) / requests_per_s,
            bool(holds.any()),
        )
