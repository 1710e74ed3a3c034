"""Rows of encoders and convolutional networks: one pass over a batch."""

from __future__ import annotations

from waferline.evidence.names import engine_name, precision_of
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import Row
from waferline.workloads.spec import ModelSpec, Transformer
from waferline.workloads.streams import StreamNet

_ANSWERS = {"latency_s": "latency_s", "ttft_s": "latency_s", "samples_per_s": "samples_per_s"}
_MULTI_STREAM_SAMPLES = 8.0  # of one query of the scenario (MLPerf Inference rules, section 3.1)
_BATCH_OF_SCENARIO = {"MLPerf SingleStream": 1.0, "MLPerf MultiStream": _MULTI_STREAM_SAMPLES}
_OFFLINE_BATCH = 256.0  # samples in flight on one device: past the knee of every network here


def single_request(row: Row, model: ModelSpec, hardware: str, assumed_hardware: str) -> Request | Refusal:
    """The question that a row of an encoder or a convolutional network asks, with what had to be assumed for it."""
    if isinstance(model, Transformer) and model.kind == "encoder-decoder":
        return Refusal("lengths", "decoder lengths of encoder-decoder models are not stated")
    if isinstance(model, StreamNet) and model.steps:
        return Refusal("lengths", "steps and size of a diffusion run are not stated as numbers")
    if row.metric not in _ANSWERS:
        return Refusal("metric", f"{row.metric} is not a metric of one pass")
    engine, assumed_engine = engine_name(row, hardware)
    formats = precision_of(row, engine)
    if isinstance(formats, Refusal):
        return formats
    sequence = row.input_tokens or _fixed_length(model)
    if sequence is None:
        return Refusal("lengths", "sequence length not stated")
    batch = _batch(row)
    if isinstance(batch, Refusal):
        return batch
    samples, assumed_batch = batch
    if samples > 1 and row.metric == "samples_per_s" and "Offline" in row.notes:
        samples *= row.devices or 1.0
    if (row.tp or 1.0) > 1:
        return Refusal("parallelism", "one pass over several devices is not modelled")
    said = (assumed_hardware, assumed_engine, formats[2], assumed_batch)
    return Request(
        door="single",
        model=row.model,
        hardware=hardware,
        precision=formats[0],
        kv=formats[1],
        engine=engine,
        answer=_ANSWERS[row.metric],
        variant="infer",
        batch=samples,
        input_tokens=sequence,
        dp=row.devices or 1.0,
        assumed=tuple(s for s in said if s),
    )


def _fixed_length(model: ModelSpec) -> float | None:
    """The input length that the architecture fixes; an image network has one, a text encoder does not."""
    if isinstance(model, Transformer):
        return float(model.fixed_tokens) or None
    return 1.0


def _batch(row: Row) -> tuple[float, str] | Refusal:
    if row.batch is not None:
        return row.batch, ""
    for words, batch in _BATCH_OF_SCENARIO.items():
        if words in row.notes:
            return batch, ""
    if "MLPerf Offline" in row.notes:
        return _OFFLINE_BATCH, f"offline: {_OFFLINE_BATCH:g} samples in flight on a device"
    return Refusal("batch", "batch not stated")
