"""What only follows from the times and the memory of a served model: each field a formula that runs when somebody reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from waferline.arrays import Floats
from waferline.elementwise import maximum
from waferline.predict.phase import INTERVALS
from waferline.predict.power import energy_quantiles, power_quantiles
from waferline.predict.result import Fields
from waferline.units import SECONDS_PER_HOUR

_MEGA = 1e6
# What the rest only follows from.
HIDDEN = frozenset(
    f"{phase}_{name}"
    for phase in ("prefill", "decode")
    for name in ("time_s", "flops", "bytes", "peak_flops", *INTERVALS)
)


def _bounded(name: str, phase: str, key: str) -> Callable[[Fields], Floats]:
    """An end of an interval: the expected time by the quantile of its phase, never beyond the bound."""
    return lambda v: maximum(v[f"{name}_s"] * np.exp(v.parts[f"{phase}_{key}"]), v[f"light_{name}_s"])


_ENDS = ("low90", "high90")


def _power_end(phase: str, end: int) -> Callable[[Fields], Floats]:
    """An end of the interval of watts, never beyond the limit."""
    return lambda v: np.minimum(
        v[f"{phase}_power_w"] * np.exp(power_quantiles(v.parts["kind"])[end]), v.parts["limit_w"] * v["devices"]
    )


def _energy_end(end: int) -> Callable[[Fields], Floats]:
    times = tuple(f"decode_{key}" for key in _ENDS)
    return lambda v: (
        v["energy_j_per_token"] * np.exp(energy_quantiles(v.parts["kind"], [v.parts[t] for t in times])[end])
    )


# Field → what it needs of the rest, and how it follows.
DERIVED: Mapping[str, tuple[tuple[str, ...], Callable[[Fields], Any]]] = {
    "throughput_tokens_per_s": (("itl_s",), lambda v: v.parts["batch_size"] / v["itl_s"]),
    "light_throughput_tokens_per_s": (("itl_s",), lambda v: v.parts["batch_size"] / v["light_itl_s"]),
    "user_tokens_per_s": (("itl_s",), lambda v: 1.0 / v["itl_s"]),
    "light_user_tokens_per_s": (("itl_s",), lambda v: 1.0 / v["light_itl_s"]),
    "request_s": (("ttft_s",), lambda v: v["ttft_s"] + np.maximum(v.parts["output_len"] - 1.0, 0.0) * v["itl_s"]),
    "light_request_s": (
        ("ttft_s",),
        lambda v: v["light_ttft_s"] + np.maximum(v.parts["output_len"] - 1.0, 0.0) * v["light_itl_s"],
    ),
    **{
        f"{name}_{key}_s": ((f"{phase}_{key}",), _bounded(name, phase, key))
        for name, phase in (("ttft", "prefill"), ("itl", "decode"))
        for key in INTERVALS
    },
    "kv_cache_bytes": ((), lambda v: v["device_kv_bytes"] * v["devices"]),
    "memory_utilization": ((), lambda v: v["device_memory_bytes"] / v["capacity_bytes"]),
    "total_memory_bytes": ((), lambda v: v["device_memory_bytes"] * v["devices"]),
    **{
        f"{phase}_{name}": ((f"{phase}_time_s",), formula(phase))
        for phase in ("prefill", "decode")
        for name, formula in {
            "intensity_flops_per_byte": lambda p: (
                lambda v: v.parts[f"{p}_flops"] / np.maximum(v.parts[f"{p}_bytes"], 1.0)
            ),
            "mfu": lambda p: lambda v: v.parts[f"{p}_flops"] / (v.parts[f"{p}_time_s"] * v.parts[f"{p}_peak_flops"]),
            "mbu": lambda p: lambda v: v.parts[f"{p}_bytes"] / (v.parts[f"{p}_time_s"] * v.parts["bandwidth"]),
            "ridge_flops_per_byte": lambda p: lambda v: v.parts[f"{p}_peak_flops"] / v.parts["bandwidth"],
        }.items()
    },
    "prefill_energy_j": (("prefill_power_w",), lambda v: v["prefill_power_w"] * v["ttft_s"]),
    "energy_j_per_token": (("decode_power_w",), lambda v: v["decode_power_w"] / v["throughput_tokens_per_s"]),
    **{
        f"energy_{key}_j_per_token": (("decode_power_w", f"decode_{key}"), _energy_end(i))
        for i, key in enumerate(_ENDS)
    },
    **{
        f"{phase}_power_{key}_w": ((f"{phase}_power_w",), _power_end(phase, i))
        for phase in ("prefill", "decode")
        for i, key in enumerate(_ENDS)
    },
    "cost_usd_per_mtoken": (
        ("hourly_usd", "itl_s"),
        lambda v: v.parts["hourly_usd"] * v["devices"] / SECONDS_PER_HOUR / v["throughput_tokens_per_s"] * _MEGA,
    ),
}
