"""Wafer-scale inference: weights resident in SRAM over a mesh of cores, or streamed through it layer by layer."""

from waferline.predict.wafer.ask import predict_resident, predict_streaming
from waferline.predict.wafer.autotune import best_gemv, tune
from waferline.predict.wafer.kv import capacity_tokens
from waferline.predict.wafer.resident import WaferResidentModel, WaferResidentResult
from waferline.predict.wafer.streaming import WeightStreamingModel, WeightStreamingResult

__all__ = [
    "WaferResidentModel",
    "WaferResidentResult",
    "WeightStreamingModel",
    "WeightStreamingResult",
    "best_gemv",
    "capacity_tokens",
    "predict_resident",
    "predict_streaming",
    "tune",
]
