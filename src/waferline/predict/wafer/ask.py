"""A command-line request for a wafer, answered: weights resident in SRAM, or streamed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from waferline.errors import InvalidInputError
from waferline.machines.device import Device
from waferline.predict.wafer.case import make_case
from waferline.predict.wafer.grids import nearest_fitting
from waferline.predict.wafer.resident import WaferResidentModel, WaferResidentResult
from waferline.predict.wafer.streaming import WeightStreamingModel, WeightStreamingResult
from waferline.text import is_count

_DEFAULT_PROMPT = 2048
_DEFAULT_PRECISION = "fp16"


class Asked(Protocol):
    """What these answers read of a scenario."""

    @property
    def precision(self) -> str | None: ...
    @property
    def kv(self) -> str | None: ...
    @property
    def batch(self) -> int: ...
    @property
    def prompt(self) -> int | None: ...
    @property
    def output(self) -> int: ...
    @property
    def devices(self) -> str: ...
    @property
    def grid(self) -> str | None: ...


def predict_resident(model: Any, device: Device, request: Asked) -> WaferResidentResult:
    """Weights in SRAM: `devices` wafers, or the fewest that hold the model for "auto", which is the default.

    Raises: DoesNotFitError when the wafers that are given do not hold it, or when it does not fit the grid asked for; others
    as the model's `solve`.
    """
    given, side = _count(request.devices), "auto" if request.grid is None else _side(request.grid)
    prompt, precision = _DEFAULT_PROMPT if request.prompt is None else request.prompt, _with_kv(request)
    result = WaferResidentModel().solve(
        model,
        device,
        prompt,
        request.batch,
        precision,
        output_len=request.output,
        prefill_grid=side,
        decode_grid=side,
        systems="auto" if given is None else given,
    )
    if given is not None or result["systems"] <= 1:
        return result
    note = f"the model needs {float(result['systems']):.0f} wafers; the answer is for that many"
    if not isinstance(side, str):
        lengths = {True: np.asarray(prompt), False: np.asarray(prompt + request.output / 2)}
        near = nearest_fitting(make_case(model, device, precision), side, 1, np.asarray(request.batch), lengths)
        note += f"; {near}x{near} fits one" if near else "; no grid fits one"
    return replace(result, notes=(note, *result.notes))


def _side(grid: str) -> int:
    """The side of a square region, as `360x360` or `360`."""
    width, _, height = grid.lower().replace("×", "x").partition("x")
    if not (is_count(width) and height in ("", width)) or int(width) < 1:
        raise InvalidInputError(f"'{grid}' is no square grid", where="--grid", hint="cores as 360x360")
    return int(width)


def predict_streaming(model: Any, device: Device, request: Asked) -> WeightStreamingResult:
    """Weights streamed: the decode step, with the prefill's `ttft_s` and rate beside it, on `devices` wafers."""
    stream = WeightStreamingModel()
    prompt = _DEFAULT_PROMPT if request.prompt is None else request.prompt
    precision = request.precision or _DEFAULT_PRECISION
    systems = _count(request.devices) or 1
    context = prompt + request.output // 2
    shared: dict[str, Any] = {"systems": systems, "kv": request.kv}
    prefill = stream.solve(model, device, prompt, request.batch, precision, phase="prefill", **shared)
    decode = stream.solve(model, device, context, request.batch, precision, phase="decode", **shared)
    ok = np.where(prefill["feasible"] & decode["feasible"], 1.0, np.nan)
    itl = ok * decode["pass_s"]
    most = np.minimum(prefill["max_batch_size"], decode["max_batch_size"])
    values = {
        **decode.values,
        "feasible": prefill["feasible"] & decode["feasible"],
        "ttft_s": ok * prefill["pass_s"],
        "itl_s": itl,
        "tpot_s": itl,
        "prefill_tokens_per_s": prefill["throughput_tokens_per_s"],
        "user_tokens_per_s": 1.0 / itl,
        "throughput_tokens_per_s": ok * decode["throughput_tokens_per_s"],
        "output_tokens_per_s": ok * decode["throughput_tokens_per_s"],
        "max_batch_size": most,
        "optimal_batch_size": np.minimum(decode["break_even_batch_size"], most),
        "max_tokens": prefill["max_tokens"],
        "request_s": ok * prefill["pass_s"] + request.output * itl,
        "prefill_bottleneck": prefill["bottleneck"],
        "decode_bottleneck": decode["bottleneck"],
        "light_ttft_s": prefill["light_pass_s"],
        "light_itl_s": decode["light_pass_s"],
        "light_tpot_s": decode["light_pass_s"],
        "devices": np.asarray(float(systems)),
    }
    return replace(decode, values=values, operators=(*prefill.operators, *decode.operators))


def _with_kv(request: Asked) -> str:
    precision = request.precision or _DEFAULT_PRECISION
    return precision if request.kv is None else f"{precision},kv={request.kv}"


def _count(devices: str) -> int | None:
    """Wafers asked for; None means the fewest that hold the model."""
    if isinstance(devices, str) and devices == "auto":
        return None
    if not is_count(devices) or int(devices) < 1:
        raise InvalidInputError(f"--devices must be a whole number of at least 1, or 'auto', got '{devices}'")
    return int(devices)
