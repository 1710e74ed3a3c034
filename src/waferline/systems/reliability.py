"""`ReliabilityModel` and `CheckpointModel`: how often a fleet is interrupted, how often to save, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import unknown
from waferline.predict.result import Field, Result
from waferline.systems.fleet import as_fleet
from waferline.units import SECONDS_PER_HOUR
from waferline.workloads.load import load_model
from waferline.workloads.scenario import real, whole
from waferline.workloads.weights import weight_elements

_GIGA = 1e9


class ReliabilityResult(Result):
    """What `ReliabilityModel.solve` answers. Every field broadcasts."""

    fleet_mtbf = Field("fleet_mtbf_s", "Mean time between interruptions of the whole fleet")
    expected_failures = Field("expected_failures", "Interruptions in the job's time")
    failure_probability = Field("failure_probability", "Chance that there is at least one")
    optimal_checkpoint_interval = Field(
        "checkpoint_interval_s", "Time between saves that loses least (Young 1974, Daly 2006)"
    )
    goodput_ratio = Field("goodput_ratio", "Share of the time that makes progress, with saves that often")


@dataclass(frozen=True, slots=True)
class ReliabilityModel:
    """Independent interruptions at a published rate a device; checkpoints at the interval of Young (1974) and Daly (2006)."""

    def solve(
        self,
        fleet: Any,
        job_duration_hours: Any,
        checkpoint_time_s: Any = 60.0,
        avg_recovery_time_s: Any = 300.0,
        *,
        rate: str | None = None,
        device_hours: Any = None,
    ) -> ReliabilityResult:
        """Interruptions of `fleet` (a `Fleet`, or a machine for one) in a job, and the time that they and the saves cost.

        checkpoint_time_s: that a save stops the job. avg_recovery_time_s: from an interruption to the next step. rate: whose
        published rate (`catalog/reliability.yaml`); device_hours: a rate of one's own, device-hours between interruptions.
        Raises: UnknownNameError, InvalidInputError.
        """
        facts = read_packaged("reliability.yaml")
        name = rate or facts["default"]
        if name not in facts["fleets"]:
            raise unknown("published rate of interruptions", name, facts["fleets"])
        record = facts["fleets"][name]
        between = record["device_hours"] if device_hours is None else real("device_hours", device_hours, least=1e-9)
        devices = as_fleet(fleet).devices
        hours = real("job_duration_hours", job_duration_hours)
        save = np.asarray(real("checkpoint_time_s", checkpoint_time_s, least=1e-3))
        recovery = real("avg_recovery_time_s", avg_recovery_time_s)
        mtbf = np.asarray(between) * SECONDS_PER_HOUR / devices
        interval = daly_interval(save, mtbf)
        lost = save / (interval + save) + ((interval + save) / 2 + recovery) / mtbf
        failures = np.asarray(hours) * SECONDS_PER_HOUR / mtbf
        values = {
            "fleet_mtbf_s": mtbf,
            "expected_failures": failures,
            "failure_probability": -np.expm1(-failures),
            "checkpoint_interval_s": interval,
            "goodput_ratio": np.maximum(0.0, 1.0 - lost),
        }
        given = {"title": "rate given by the caller", "url": "", "date": ""}
        source = given if device_hours is not None else facts["sources"][record["source"]]
        return ReliabilityResult(
            values=values,
            about={"fleet": as_fleet(fleet).title, "rate": name if device_hours is None else "given"},
            sources=({k: str(source.get(k, "")) for k in ("title", "url", "date")},),
            not_modelled=(
                "failures that come together",
                "saves beside the computation",
                "spare machines that are not ready",
            ),
        )


def daly_interval(save_s: Any, mtbf_s: Any) -> Any:
    """Seconds of work between saves that lose least time, of saves that take `save_s` (Daly 2006, higher order)."""
    part = np.sqrt(save_s / (2 * mtbf_s))
    interval = np.sqrt(2 * save_s * mtbf_s) * (1 + part / 3 + part**2 / 9) - save_s
    return np.where(save_s < 2 * mtbf_s, interval, mtbf_s)


class CheckpointResult(Result):
    """What `CheckpointModel.solve` answers."""

    checkpoint_size = Field("checkpoint_bytes", "Weights, their float32 masters and the optimizer's state")
    write_time_seconds = Field("write_s", "One save with these writers")
    max_bandwidth_required = Field("needed_bytes_per_s", "What keeps the penalty at one per cent")
    storage_bottleneck = Field("storage_bottleneck", "True where the file system's limit binds, not the writers")
    mfu_penalty_pct = Field("mfu_penalty_pct", "Share of time that saves take, in per cent")


_ALLOWED_SHARE = 0.01  # of the time that saves may take before storage is called short


@dataclass(frozen=True, slots=True)
class CheckpointModel:
    """Bytes of a saved state over what writers and the file system take. Source: `catalog/reliability.yaml`."""

    def solve(
        self,
        model: Any,
        hardware: Any = None,
        optimizer: str = "adam",
        checkpoint_interval_hours: Any = 4.0,
        n_writers: Any = 1,
        filesystem_limit_gbs: Any = 500.0,
        *,
        writer_gbs: Any = None,
    ) -> CheckpointResult:
        """Size and time of one save of `model` under training.

        hardware: whose host link a writer is limited by, where it has one. n_writers: devices that write a share each.
        filesystem_limit_gbs: what all writers reach together, writer_gbs: what one does, in GB/s.
        Raises: UnknownNameError, InvalidInputError.
        """
        facts: Mapping[str, Any] = read_packaged("reliability.yaml")["checkpoint"]
        if optimizer not in facts["bytes_per_parameter"]:
            raise unknown("optimizer", optimizer, facts["bytes_per_parameter"])
        spec = load_model(model)
        size = float(sum(weight_elements(spec).values())) * facts["bytes_per_parameter"][optimizer]
        limit = np.asarray(real("filesystem_limit_gbs", filesystem_limit_gbs, least=1e-9)) * _GIGA
        each = _writer_bytes_per_s(hardware, writer_gbs)
        writers = np.asarray(whole("n_writers", n_writers)) * each
        write = size / np.minimum(writers, limit)
        interval = (
            np.asarray(real("checkpoint_interval_hours", checkpoint_interval_hours, least=1e-6)) * SECONDS_PER_HOUR
        )
        source = read_packaged("reliability.yaml")["sources"][facts["source"]]
        return CheckpointResult(
            values={
                "checkpoint_bytes": np.asarray(size),
                "write_s": write,
                "needed_bytes_per_s": size / (_ALLOWED_SHARE * interval),
                "storage_bottleneck": writers > limit,
                "mfu_penalty_pct": 100 * write / (write + interval),
            },
            about={"model": spec.name, "optimizer": optimizer},
            sources=({k: str(source.get(k, "")) for k in ("title", "url", "date")},),
            not_modelled=("saves that overlap with the computation", "local copies before the file system"),
        )


def _writer_bytes_per_s(hardware: Any, writer_gbs: Any) -> Any:
    """What one writer can send: as given, else the machine's host link, else no limit of its own."""
    if writer_gbs is not None:
        return np.asarray(real("writer_gbs", writer_gbs, least=1e-9)) * _GIGA
    link = as_fleet(hardware).device.link("host") if hardware is not None else None
    return link.bandwidth_bytes_per_s if link else np.inf
