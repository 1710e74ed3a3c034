"""The JSON contract of `waferline predict`: SI floats under stable names, at the top and in every phase.

Schema (also in `docs/json.md`): `fits`, `ttft_s`, `tpot_s`, `output_tokens_per_s`, `bottleneck`, `speed_of_light` (the
same time keys), `phases` (the same again for prefill and decode alone), `memory`, `operators[]`, `sources[]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waferline.encode import encode
from waferline.predict.result import Result

SCHEMA_VERSION = 1

# contract key -> result field
_TIMES = {"ttft_s": "ttft_s", "tpot_s": "itl_s", "output_tokens_per_s": "throughput_tokens_per_s"}
_RATES = {
    "user_tokens_per_s": "user_tokens_per_s",
    "request_s": "request_s",
    "energy_j_per_token": "energy_j_per_token",
    "cost_usd_per_mtoken": "cost_usd_per_mtoken",
    "max_batch_size": "max_batch_size",
    "devices": "devices",
}
_LOADED = {
    "ttft_s": "loaded_ttft_s",
    "tpot_s": "loaded_tpot_s",
    "output_tokens_per_s": "loaded_throughput_tokens_per_s",
    "running_sequences": "running_sequences",
}
_MEMORY = {
    "weights_bytes": "device_weights_bytes",
    "kv_cache_bytes": "device_kv_bytes",
    "activation_bytes": "device_activation_bytes",
    "workspace_bytes": "device_workspace_bytes",
    "total_bytes": "device_memory_bytes",
    "usable_bytes": "usable_bytes",
    "capacity_bytes": "capacity_bytes",
    "kv_capacity_tokens": "kv_capacity_tokens",
    "max_batch_size": "max_batch_size",
    **{key: key for key in ("host_weights_bytes", "host_kv_bytes", "host_memory_bytes", "host_capacity_bytes")},
}
_EXPENSE = (("energy_j_per_token", "energy", "j_per_token"), ("power_w", "decode_power", "w"))
_PHASE = ("bottleneck", "intensity_flops_per_byte", "ridge_flops_per_byte", "mfu", "mbu", "power_w")
_PHASE_TIMES = {"prefill": ("ttft_s",), "decode": ("tpot_s", "output_tokens_per_s")}


def _pick(result: Result, keys: Mapping[str, str], prefix: str = "") -> dict[str, Any]:
    return {key: encode(result[prefix + name]) for key, name in keys.items() if prefix + name in result}


def _interval(result: Result) -> dict[str, Any]:
    pairs = {"ttft_s": "ttft", "tpot_s": "itl"}
    return {
        key: {level: encode(result[f"{name}_{level}_s"]) for level in ("low90", "low50", "high50", "high90")}
        for key, name in pairs.items()
        if f"{name}_low90_s" in result
    } | {
        key: {end: encode(result[f"{stem}_{end}_{unit}"]) for end in ("low90", "high90")}
        for key, stem, unit in _EXPENSE
        if f"{stem}_low90_{unit}" in result
    }


def serving_contract(result: Result) -> dict[str, Any]:
    """A serving result as the contract's mapping."""
    fits, light = encode(result["feasible"]), _pick(result, _TIMES, "light_")
    operators = encode(result.operators)
    data: dict[str, Any] = {"schema": SCHEMA_VERSION, "how": result.how, **result.about, "fits": fits}
    data |= _pick(result, _TIMES)
    data["bottleneck"] = encode(result["decode_bottleneck"])
    data["speed_of_light"] = light
    data["interval"] = _interval(result)
    data |= _pick(result, _RATES)
    if "loaded_ttft_s" in result:
        data["loaded"] = _pick(result, _LOADED) | {
            "speed_of_light": _pick(result, {k: v for k, v in _LOADED.items() if v != "running_sequences"}, "light_")
        }
    data["memory"] = _pick(result, _MEMORY) | {"rule": data.pop("memory_rule")}
    for phase, keys in _PHASE_TIMES.items():
        times = {k: data[k] for k in keys}
        data[phase] = {
            "fits": fits,
            **times,
            **_pick(result, {k: f"{phase}_{k}" for k in _PHASE}),
            "speed_of_light": {k: light[k] for k in keys},
            "operators": [row for row in operators if row["phase"] == phase],
        }
    data["operators"] = operators
    return data | _tail(result)


def pass_contract(result: Result) -> dict[str, Any]:
    """A single-device pass or a training step as the contract's mapping: all fields, plus `fits` and `speed_of_light`."""
    data: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "how": result.how,
        **result.about,
        "fits": encode(result["feasible"]),
    }
    data["bottleneck"] = encode(result["bottleneck"])
    data |= {k: encode(v) for k, v in result.values.items() if not k.startswith("light_") and k not in data}
    data["speed_of_light"] = {
        k.removeprefix("light_"): encode(v) for k, v in result.values.items() if k.startswith("light_")
    }
    data["operators"] = encode(result.operators)
    return data | _tail(result)


def _tail(result: Result) -> dict[str, Any]:
    return {
        "sources": encode(result.sources),
        "notes": list(result.notes),
        "not_modelled": list(result.not_modelled),
    }
