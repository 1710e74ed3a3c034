"""`DataModel`: whether storage and processors feed the accelerators as fast as they eat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.predict.result import Field, Result
from waferline.units import to_si
from waferline.workloads.scenario import real


class DataResult(Result):
    """What `DataModel.solve` answers. Every field broadcasts."""

    is_stalled = Field("is_stalled", "True where the accelerators wait for data")
    utilization = Field("utilization", "What is asked of the slowest part over what it can; above 1 it stalls")
    accelerator_utilization = Field("accelerator_utilization", "Share of time that the accelerators compute")
    demand_bw = Field("demand_bytes_per_s", "What the accelerators eat")
    supply_bw = Field("supply_bytes_per_s", "What the slowest part delivers")
    bottleneck = Field("bottleneck", "storage, processor or accelerator")
    slowdown_factor = Field("slowdown", "How much longer than computing alone")


@dataclass(frozen=True, slots=True)
class DataModel:
    """The slowest of three stages that work at once: reading, preparing, computing (a pipeline's throughput law)."""

    def solve(
        self,
        workload_data_rate: Any,
        storage: Any = None,
        *,
        processor: Any = None,
    ) -> DataResult:
        """`workload_data_rate`: bytes a second that the accelerators eat (samples a second times bytes a sample).

        storage: bytes a second that it is read at; processor: bytes a second that are prepared. A number, a text such as
        `"2 GB/s"`, a pint quantity or an array; None is no limit. Raises: InvalidInputError.
        """
        demand = _rate("workload_data_rate", workload_data_rate)
        stages = {"storage": storage, "processor": processor}
        given = {n: _rate(n, v) if v is not None else np.asarray(np.inf) for n, v in stages.items()}
        supply = np.minimum(given["storage"], given["processor"])
        used = demand / supply
        slowest = np.where(given["storage"] <= given["processor"], "storage", "processor")
        return DataResult(
            values={
                "is_stalled": used > 1.0,
                "utilization": used,
                "accelerator_utilization": 1.0 / np.maximum(1.0, used),
                "demand_bytes_per_s": demand,
                "supply_bytes_per_s": supply,
                "bottleneck": np.where(used > 1.0, slowest, "accelerator"),
                "slowdown": np.maximum(1.0, used),
            },
            not_modelled=("bursts between batches: queues are long enough", "caches that fill in the first epoch"),
        )


def _rate(name: str, value: Any) -> Any:
    return np.asarray(real(name, to_si(name, value, "byte/s"), least=1e-9))
