"""`DistributedModel` and `NetworkRooflineModel`: a training step over a fleet, and when its network binds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError
from waferline.predict.result import Field, Result
from waferline.predict.training import TrainingModel, TrainingResult
from waferline.systems.fleet import as_fleet
from waferline.workloads.scenario import whole


class DistributedResult(TrainingResult):
    """What `DistributedModel.solve` answers: a training step with what the parallelism costs."""

    step_latency_total = Field("step_time_s", "One optimizer step")
    dp_communication_latency = Field("exchange_s", "Data-parallel traffic that the passes do not hide")
    bubble_fraction = Field("bubble_share", "Share of the step that pipeline stages wait")
    scaling_efficiency = Field(
        "scaling_efficiency",
        "Tokens a second of a device over those of one replica alone; sharding the optimizer may save more than is lost",
    )
    effective_throughput = Field("total_tokens_per_s", "Trained tokens per second, all devices")


@dataclass(frozen=True, slots=True)
class DistributedModel:
    """3D and 4D parallel training: `TrainingModel` over a `Fleet`, whose devices beyond tp · pp are data parallel."""

    def solve(
        self,
        model: Any,
        fleet: Any,
        batch_size: Any = 1,
        precision: str = "bf16",
        *,
        tp_size: Any = 1,
        pp_size: Any = 1,
        ep_size: Any = 1,
        v_stages: Any = 1,
        microbatch_count: Any = None,
        seq_len: Any = 2048,
        **options: Any,
    ) -> DistributedResult:
        """One step of `batch_size` sequences of `seq_len` tokens on all devices of `fleet`.

        v_stages: interleaved stages a device. microbatch_count: micro-batches a replica, of one sequence unless given. Other
        options are those of `TrainingModel.solve` (recompute, sharding, stack). Raises: as that.
        """
        group = as_fleet(fleet)
        tp, pp = whole("tp_size", tp_size), whole("pp_size", pp_size)
        dp = group.devices / (np.asarray(tp) * np.asarray(pp))
        if np.any(dp < 1) or np.any(dp != np.floor(dp)):
            raise InvalidInputError(
                f"{group.devices} devices are no multiple of tp_size · pp_size = {np.ravel(tp * pp)[0]:g}"
            )
        batch = whole("batch_size", batch_size)
        micro = (
            1 if microbatch_count is None else np.maximum(1.0, batch / dp / whole("microbatch_count", microbatch_count))
        )
        asked = {"tp": tp, "pp": pp, "ep": ep_size, "virtual_stages": v_stages, **options}
        answer = TrainingModel().solve(model, group.device, seq_len, batch, micro, precision, dp=dp, **asked)
        alone = TrainingModel().solve(
            model, group.device, seq_len, np.maximum(1.0, batch / dp), micro, precision, **asked
        )
        share = answer["total_tokens_per_s"] / (alone["total_tokens_per_s"] * dp)
        return DistributedResult(
            values={**answer.values, "scaling_efficiency": np.asarray(share)},
            coords=answer.coords,
            about={**answer.about, "fleet": group.title},
            operators=answer.operators,
            sources=answer.sources,
            not_modelled=answer.not_modelled,
        )


class NetworkRooflineResult(Result):
    """What `NetworkRooflineModel.solve` answers. Every field broadcasts."""

    bottleneck = Field("bottleneck", "compute or network, whichever takes longer in a step")
    compute = Field("compute_s", "A step's arithmetic of one device at its peak")
    communication = Field("communication_s", "Its gradients around a ring at the full bandwidth of the link")
    intensity = Field("intensity_flops_per_byte", "FLOPs of a step over bytes that it sends")
    ridge = Field("ridge_flops_per_byte", "Where the two take equally long")
    break_even_batch = Field("break_even_batch", "Sequences a device at which they do")


@dataclass(frozen=True, slots=True)
class NetworkRooflineModel:
    """A roofline with the network as its slope: 6 N FLOPs a token over 2 (n - 1)/n of the gradients' bytes (ring)."""

    def solve(
        self, model: Any, fleet: Any, precision: str = "bf16", *, batch_size: Any = None, seq_len: Any = 2048
    ) -> NetworkRooflineResult:
        """Data-parallel training of `model` over `fleet`, `batch_size` sequences in all (one a device unless given).

        Raises: UnknownNameError, InvalidInputError, UnsupportedError for machines without links.
        """
        from waferline.formats import get_format, resolve
        from waferline.workloads.load import load_model
        from waferline.workloads.weights import weight_elements

        group, spec = as_fleet(fleet), load_model(model)
        device = group.device
        link = device.link("scale-out") or device.link("scale-up")
        if link is None or group.devices < 2:
            raise InvalidInputError(f"{group.title} has no network between its devices")
        arithmetic = get_format(resolve(precision, device.arithmetic).activations).arithmetic
        elements = float(sum(weight_elements(spec).values()))
        sequences = np.asarray(whole("batch_size", group.devices if batch_size is None else batch_size)) / group.devices
        tokens = np.asarray(whole("seq_len", seq_len))
        flops = _FLOPS * elements * tokens * sequences
        sent = 2.0 * (group.devices - 1) / group.devices * elements * _GRADIENT_BYTES
        ridge = device.peak(arithmetic) / link.bandwidth_bytes_per_s
        compute, wire = flops / device.peak(arithmetic), sent / link.bandwidth_bytes_per_s
        return NetworkRooflineResult(
            values={
                "compute_s": compute,
                "communication_s": np.asarray(wire),
                "intensity_flops_per_byte": flops / sent,
                "ridge_flops_per_byte": np.asarray(ridge),
                "break_even_batch": ridge * sent / (_FLOPS * elements * tokens),
                "bottleneck": np.where(compute >= wire, "compute", "network"),
            },
            about={"model": spec.name, "fleet": group.title, "link": link.name},
            sources=(
                {
                    "title": "Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms, 2009",
                    "url": "",
                    "date": "2009",
                },
            ),
            not_modelled=("efficiency below the peaks", "traffic that hides behind the backward pass"),
        )


_FLOPS = 6.0  # a parameter and token, forward and backward
_GRADIENT_BYTES = 2.0  # of a 16-bit gradient
