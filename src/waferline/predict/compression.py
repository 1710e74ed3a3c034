"""`CompressionModel`: what quantisation, pruning or distillation saves, speeds up and costs in quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError, UnknownNameError, UnsupportedError, unknown
from waferline.formats import get_format, resolve
from waferline.machines.hardware import load_hardware
from waferline.predict.quality import QualityEstimate, accuracy_delta
from waferline.predict.result import Field, Result, merged_sources
from waferline.predict.serving import ServingModel
from waferline.predict.single import SingleNodeModel
from waferline.workloads.load import load_model
from waferline.workloads.spec import Transformer
from waferline.workloads.weights import weight_elements

METHODS = ("quantization", "pruning", "distillation")

_GIGA = 1e9
_BITS_PER_BYTE = 8
_MASK_BITS = 1.0  # unstructured sparsity keeps one bit per weight to say which remain
_BASE = "fp16"
_DEFAULT_PROMPT = 2048
# Weight width -> format to price, and the published method whose quality rows speak for it.
_WIDTHS: Mapping[int, tuple[str, str]] = {
    16: ("fp16", ""),
    8: ("int8", "smoothquant"),
    4: ("int4", "gptq"),
    3: ("int3", "gptq"),
    2: ("int2", "gptq"),
}
_PRUNING_METHODS = ("wanda", "gradual-magnitude")  # one-shot on language models first, then trained sparsity


class CompressionResult(Result):
    """What `CompressionModel.solve` answers."""

    compressed_size = Field("compressed_bytes", "All weights after compression")
    original_size = Field("original_bytes", "All weights before, 16 bits each")
    compression_ratio = Field("compression_ratio", "Before over after")
    compressed_size_gb = Field("compressed_size_gb", "All weights after compression, in decimal gigabytes")
    memory_savings_pct = Field("memory_savings_pct", "Share of weight memory saved, in per cent")
    estimated_accuracy_delta = Field(
        "estimated_accuracy_delta",
        "Relative change of the quality metric, negative is worse; nan where nobody published",
    )
    prefill_speedup = Field("prefill_speedup", "TTFT before over after")
    decode_speedup = Field("decode_speedup", "TPOT before over after")


@dataclass(frozen=True, slots=True)
class CompressionModel:
    """Size, speed and quality of a compressed model. Quality comes from published tables (`catalog/quality`), never a constant."""

    def solve(
        self,
        model: Any,
        hardware: Any,
        method: str = "quantization",
        *,
        target_bitwidth: int | None = None,
        precision: str | None = None,
        sparsity: float | None = None,
        structured: bool = False,
        kept: float | None = None,
        batch_size: int = 1,
        seq_len: int = _DEFAULT_PROMPT,
        weights: Any = None,
    ) -> CompressionResult:
        """Compare `model` in 16 bits with its compressed form on `hardware`.

        quantization: `target_bitwidth` (16, 8, 4, 3, 2) or a `precision` such as "q4_k_m" or "w8a8". pruning: `sparsity`
        in [0, 1); dense units skip nothing unless `structured` (2:4 halves what matrix units do). distillation: `kept`,
        the student's share of parameters. `weights`: a GGUF or safetensors file whose tensors are really encoded, so
        that the result also carries the *measured* reconstruction error.
        Raises: UnknownNameError, InvalidInputError, UnsupportedError.
        """
        if method not in METHODS:
            raise unknown("compression method", method, METHODS)
        spec, device = load_model(model), load_hardware(hardware)
        plan = _PLANS[method](target_bitwidth, precision, sparsity, structured, kept)
        elements = float(sum(weight_elements(spec).values()))
        before = elements * get_format(_BASE).bytes_per_element
        after = elements * plan.kept * plan.bits / _BITS_PER_BYTE
        quality = _quality(plan, elements)
        values: dict[str, Any] = {
            "original_bytes": before,
            "compressed_bytes": after,
            "compressed_size_gb": after / _GIGA,
            "compression_ratio": before / after,
            "memory_savings_pct": 100 * (1 - after / before),
            "estimated_accuracy_delta": -quality.median if quality else np.nan,
            "accuracy_delta_low": -quality.high if quality else np.nan,
            "accuracy_delta_high": -quality.low if quality else np.nan,
        }
        values |= _speedups(spec, device, plan, batch_size, seq_len)
        if weights is not None:
            values |= _measured_error(weights, plan)
        return CompressionResult(
            values={k: np.asarray(v) for k, v in values.items()},
            about={
                "model": spec.name,
                "hardware": device.name,
                "method": method,
                "quality_metric": quality.metric if quality else "none published near this point",
            },
            sources=(*merged_sources(spec.sources, device.citations), *_quality_sources(quality)),
            notes=plan.notes,
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    """A compression as numbers: bits of a kept weight, share kept, work left, and where its quality rows are."""

    bits: float
    kept: float
    precision: str
    quality_methods: tuple[str, ...]
    quality_key: Mapping[str, float]
    work: float = 1.0  # share of matrix arithmetic and traffic that remains
    notes: tuple[str, ...] = ()


def _quantization(bits: int | None, precision: str | None, *_: Any) -> _Plan:
    if precision is None:
        if bits is None or bits not in _WIDTHS:
            raise InvalidInputError(
                f"target_bitwidth {bits!r} is not a width to quantise to",
                hint=f"widths: {', '.join(map(str, _WIDTHS))}",
            )
        precision, method = _WIDTHS[bits]
    else:
        method = precision
    weights = get_format(resolve(precision, lambda fmt: fmt).weights)
    return _Plan(weights.bits, 1.0, precision, (method,) if method else (), {"bits": weights.bits})


def _pruning(_bits: Any, _precision: Any, sparsity: float | None, structured: bool, *_: Any) -> _Plan:
    if sparsity is None or not 0 <= sparsity < 1:
        raise InvalidInputError(f"sparsity must be at least 0 and below 1, got {sparsity!r}")
    kept = 1.0 - sparsity
    if structured:
        return _Plan(
            16.0 + _MASK_BITS * 2, kept, _BASE, ("2:4",), {}, kept, ("2:4 sparsity needs units that skip zeros",)
        )
    bits = 16.0 + _MASK_BITS / kept
    return _Plan(
        bits,
        kept,
        _BASE,
        _PRUNING_METHODS,
        {"sparsity": sparsity},
        1.0,
        ("dense units do not skip single zeros: no speed-up",),
    )


def _distillation(_bits: Any, _precision: Any, _sparsity: Any, _structured: Any, kept: float | None) -> _Plan:
    if kept is None or not 0 < kept <= 1:
        raise InvalidInputError(f"kept, the student's share of parameters, must be above 0 and at most 1, got {kept!r}")
    return _Plan(16.0, kept, _BASE, ("distillation",), {"kept": kept}, kept)


_PLANS: Mapping[str, Callable[..., _Plan]] = {
    "quantization": _quantization,
    "pruning": _pruning,
    "distillation": _distillation,
}


def _quality(plan: _Plan, params: float) -> QualityEstimate | None:
    """The published loss near this point; None where nobody published any."""
    for method in plan.quality_methods:
        try:
            return accuracy_delta(method, model_params=params, **plan.quality_key)  # type: ignore[arg-type]
        except (UnknownNameError, UnsupportedError, InvalidInputError):
            continue
    return None


def _quality_sources(quality: QualityEstimate | None) -> tuple[Mapping[str, str], ...]:
    if quality is None:
        return ()
    return tuple({"title": "published quality table", "url": url, "date": ""} for url in quality.sources)


def _speedups(spec: Any, device: Any, plan: _Plan, batch: int, seq_len: int) -> dict[str, float]:
    """Before over after, by phase, at the expected time and at the speed of light."""
    if not (isinstance(spec, Transformer) and spec.has_head):
        base = SingleNodeModel().solve(spec, device, batch, _BASE)
        small = SingleNodeModel().solve(spec, device, batch, plan.precision)
        return {"inference_speedup": float(base["latency_s"] / (small["latency_s"] * plan.work))}
    base_s = ServingModel().solve(spec, device, seq_len, batch, _BASE)
    small_s = ServingModel().solve(spec, device, seq_len, batch, plan.precision)
    pairs = {"prefill_speedup": "ttft_s", "decode_speedup": "itl_s"}
    pairs |= {"light_prefill_speedup": "light_ttft_s", "light_decode_speedup": "light_itl_s"}
    return {name: float(base_s[key] / (small_s[key] * plan.work)) for name, key in pairs.items()}


def _measured_error(path: Any, plan: _Plan) -> dict[str, float]:
    """Error of really encoding every matrix of a tensor file in the plan's format, weighted by size."""
    from waferline.formats.codec import codec_for, tensor_scale_for
    from waferline.formats.open_file import open_tensors
    from waferline.formats.reconstruction import ErrorSums, add_roundtrip

    codec, source = codec_for(plan.precision), open_tensors(path)
    sums = ErrorSums()
    for tensor in source.tensors:
        if len(tensor.shape) < 2 or tensor.shape[-1] % max(codec.block, 1):
            continue
        for _rows, values in source.chunks(tensor):
            scale = None if codec.tensor_scale == "none" else tensor_scale_for(values, codec.name)
            add_roundtrip(sums, values, codec, scale)
    stats = sums.stats()
    return {"measured_relative_l2": stats.relative_l2, "measured_sqnr_db": stats.sqnr_db}
