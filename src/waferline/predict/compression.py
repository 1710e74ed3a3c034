"""`CompressionModel`: what quantisation, pruning or distillation saves, speeds up and costs in quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError, UnknownNameError, UnsupportedError, unknown
from waferline.formats import get_format, resolve
from waferline.machines.hardware import load_hardware
from waferline.predict.quality import Metric, QualityEstimate, accuracy_delta, sparsity_loss
from waferline.predict.result import Field, Result, merged_sources
from waferline.predict.serving import ServingModel
from waferline.predict.single import SingleNodeModel
from waferline.workloads.load import load_model
from waferline.workloads.spec import Transformer
from waferline.workloads.weights import weight_elements

METHODS = ("quantization", "pruning", "distillation")

_BITS_PER_BYTE = 8
_MASK_BITS = 1.0  # unstructured sparsity keeps one bit per weight to say which remain
_BASE = "fp16"
_BASE_BITS = 16.0
_DEFAULT_PROMPT = 2048
# Weight width -> format to price, and the published method whose quality rows speak for it.
_WIDTHS: Mapping[int, tuple[str, str]] = {
    16: ("fp16", ""),
    8: ("int8", "smoothquant"),
    4: ("int4", "gptq"),
    3: ("int3", "gptq"),
    2: ("int2", "gptq"),
}
# By whether it is a language model: the metric that its quality is told in, and the pruning that was published in it
# (one-shot for language models, trained sparsity for image networks).
_METRICS: Mapping[bool, Metric] = {True: "perplexity", False: "accuracy"}
_PRUNED: Mapping[Metric, str] = {"perplexity": "wanda", "accuracy": "gradual-magnitude"}


class CompressionResult(Result):
    """What `CompressionModel.solve` answers."""

    compressed_size = Field("compressed_bytes", "All weights after compression")
    original_size = Field("original_bytes", "All weights before, 16 bits each")
    compression_ratio = Field("compression_ratio", "Before over after")
    compressed_size_gb = Field("compressed_bytes", "All weights after compression")
    original_size_gb = Field("original_bytes", "All weights before, 16 bits each")
    memory_savings_pct = Field("memory_savings_pct", "Share of weight memory saved, in per cent")
    estimated_accuracy_delta = Field(
        "estimated_accuracy_delta",
        "Relative change of the metric that `about['quality_metric']` names, negative is worse; nan where nobody published",
    )
    inference_speedup = Field(
        "inference_speedup", "Time before over after: of a decode step, or of a pass of other networks"
    )
    prefill_speedup = Field("prefill_speedup", "TTFT before over after")
    decode_speedup = Field("decode_speedup", "TPOT before over after")


_SPARSITY = {"unstructured": False, "n_m": True, "2:4": True}  # whether matrix units skip the zeros


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
        sparsity_type: str | None = None,
        kept: float | None = None,
        batch_size: int = 1,
        seq_len: int = _DEFAULT_PROMPT,
        weights: str | Path | None = None,
    ) -> CompressionResult:
        """Compare `model` in 16 bits with its compressed form on `hardware`.

        quantization: `target_bitwidth` (16, 8, 4, 3, 2) or a `precision` such as "q4_k_m" or "w8a8". pruning: `sparsity`
        in [0, 1); dense units skip nothing unless `structured`, or `sparsity_type` "n_m" for "unstructured" (2:4 halves what matrix
        units do). distillation: `kept`,
        the student's share of parameters. `weights`: a GGUF or safetensors file whose tensors are really encoded, so
        that the result also carries the *measured* reconstruction error.
        Raises: UnknownNameError, InvalidInputError, UnsupportedError.
        """
        if method not in METHODS:
            raise unknown("compression method", method, METHODS)
        if sparsity_type is not None:
            if method != "pruning" or sparsity_type not in _SPARSITY:
                raise InvalidInputError(f"sparsity_type of pruning is {', '.join(_SPARSITY)}, not {sparsity_type!r}")
            structured = _SPARSITY[sparsity_type]
        spec, device = load_model(model), load_hardware(hardware)
        plan = _PLANS[method](target_bitwidth, precision, sparsity, structured, kept)
        elements = float(sum(weight_elements(spec).values()))
        before = elements * get_format(_BASE).bytes_per_element
        after = elements * plan.kept * plan.bits / _BITS_PER_BYTE
        quality = _quality(plan, _METRICS[isinstance(spec, Transformer)], elements)
        values: dict[str, Any] = {
            "original_bytes": before,
            "compressed_bytes": after,
            "compression_ratio": before / after,
            "memory_savings_pct": 100 * (1 - after / before),
            "estimated_accuracy_delta": 0.0 - quality.median if quality else np.nan,
            "accuracy_delta_low": 0.0 - quality.high if quality else np.nan,
            "accuracy_delta_high": 0.0 - quality.low if quality else np.nan,
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
            notes=(*plan.notes, *((quality.note,) if quality and quality.note else ())),
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    """A compression as numbers: bits of a kept weight, share kept, work left, and what is published of its quality."""

    bits: float
    kept: float
    precision: str
    quality: Callable[[Metric, float], QualityEstimate]  # in that metric, of a model of so many parameters
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
    width = get_format(resolve(precision, lambda fmt: fmt).weights).bits

    def quality(metric: Metric, params: float) -> QualityEstimate:
        if width >= _BASE_BITS:  # the baseline itself
            return QualityEstimate(metric, 0.0, 0.0, 0.0, width, ())
        return accuracy_delta(method, bits=width, model_params=params, metric=metric)

    return _Plan(width, 1.0, precision, quality)


def _pruning(_bits: Any, _precision: Any, sparsity: float | None, structured: bool, *_: Any) -> _Plan:
    if sparsity is None or not 0 <= sparsity < 1:
        raise InvalidInputError(f"sparsity must be at least 0 and below 1, got {sparsity!r}")
    kept = 1.0 - sparsity
    if structured:
        pattern = "2:4 sparsity needs units that skip zeros"
        bits = _BASE_BITS + _MASK_BITS * 2
        return _Plan(bits, kept, _BASE, lambda m, n: accuracy_delta("2:4", model_params=n, metric=m), kept, (pattern,))
    dense = "dense units do not skip single zeros: no speed-up"
    return _Plan(
        _BASE_BITS + (_MASK_BITS / kept if sparsity else 0.0),
        kept,
        _BASE,
        lambda m, n: sparsity_loss(_PRUNED[m], sparsity, model_params=n, metric=m),
        notes=(dense,),
    )


def _distillation(_bits: Any, _precision: Any, _sparsity: Any, _structured: Any, kept: float | None) -> _Plan:
    if kept is None or not 0 < kept <= 1:
        raise InvalidInputError(f"kept, the student's share of parameters, must be above 0 and at most 1, got {kept!r}")
    return _Plan(_BASE_BITS, kept, _BASE, lambda _, n: accuracy_delta("distillation", kept=kept, model_params=n), kept)


_PLANS: Mapping[str, Callable[..., _Plan]] = {
    "quantization": _quantization,
    "pruning": _pruning,
    "distillation": _distillation,
}


def _quality(plan: _Plan, metric: Metric, params: float) -> QualityEstimate | None:
    """The published loss near this point; None where nobody published any."""
    try:
        return plan.quality(metric, params)
    except (UnknownNameError, UnsupportedError, InvalidInputError):
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
    ratios = {name: float(base_s[key] / (small_s[key] * plan.work)) for name, key in pairs.items()}
    return {**ratios, "inference_speedup": ratios["decode_speedup"]}


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
