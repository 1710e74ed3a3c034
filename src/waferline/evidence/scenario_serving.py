"""Rows of language models that generate tokens: prefill, decode, static batches and serving."""

from __future__ import annotations

import re

from waferline.evidence import notes
from waferline.evidence.machines import machine
from waferline.evidence.metrics import ANSWERS
from waferline.evidence.names import engine_name, precision_of
from waferline.evidence.request import Load, Refusal, Request
from waferline.evidence.rows import Row
from waferline.evidence.served_rows import served_request
from waferline.workloads.spec import Transformer

_SHORT_TOKENS = 32.0  # of a prompt that is one sentence
_USUAL_PROMPT = 128.0  # that the demos of makers of accelerators time their first token with
_INFINITE = float("inf")
_PORTED = "ported"
_GRID = re.compile(r"\d+x\d+")  # of cores, the same for a prompt and for tokens
_CORES_COUNTED = "AWS Neuron"  # sources whose `tp` counts cores of a device instead of devices
_FULL_LOAD = ("max load", "MLPerf Offline", "submitted at once", "request rate inf", "max batch", "max throughput")


def serving_request(row: Row, model: Transformer, hardware: str, assumed_hardware: str) -> Request | Refusal:
    """The question that a generating row asks, with what had to be assumed for it."""
    if row.phase == "serve" and row.batch is None and notes.rate_per_s(row) is not None:
        return served_request(row, hardware)
    engine, assumed_engine = engine_name(row, hardware)
    formats = precision_of(row, engine)
    if isinstance(formats, Refusal):
        return formats
    precision, kv, assumed_format = formats
    wafer = machine(hardware).kind == "wafer"
    if wafer and _PORTED in row.engine:
        return Refusal("engine", f"{row.engine}: a compiler's schedule of another machine, ported, is not modelled")
    grid = _GRID.match(row.cores_or_grid) if wafer else None
    degrees = _parallel(row, hardware)
    if isinstance(degrees, Refusal):
        return degrees
    lengths = _lengths(row, model)
    if isinstance(lengths, Refusal):
        return lengths
    load = _load(row)
    if isinstance(load, Refusal):
        return load
    inputs, outputs, assumed_lengths = lengths
    said = (assumed_hardware, assumed_engine, assumed_format, assumed_lengths, degrees[1])
    return Request(
        door="wafer" if wafer else "serving",
        variant=grid[0] if grid else "",
        model=row.model,
        hardware=hardware,
        precision=precision,
        kv=kv,
        engine=engine,
        answer=ANSWERS[row.phase, row.metric],
        load=load[0],
        batch=load[1],
        input_tokens=max(
            inputs, 1.0
        ),  # llama-bench decodes after an empty prompt; a model needs one token to start from
        output_tokens=outputs,
        assumed=tuple(s for s in said if s),
        tp=degrees[0]["tp"],
        pp=degrees[0]["pp"],
        ep=degrees[0]["ep"],
        dp=degrees[0]["dp"],
        threads=notes.threads(row),
        sockets=_sockets(row, hardware),
    )


def _sockets(row: Row, hardware: str) -> int:
    """Sockets that one process runs on; 1 where the row says how they share the model."""
    alone = (row.tp or 1.0) * (row.pp or 1.0) * (row.dp or 1.0) == 1.0
    return int(row.devices or 1) if alone and machine(hardware).kind == "cpu" else 1


def _parallel(row: Row, hardware: str) -> tuple[dict[str, float], str] | Refusal:
    """Parallel degrees over devices; a single device needs none stated."""
    devices = row.devices or 1.0
    stated = {"tp": row.tp, "pp": row.pp, "ep": row.ep, "dp": row.dp}
    if (devices == 1 and not _counts_chips(row)) or _sockets(row, hardware) > 1:
        return dict.fromkeys(stated, 1.0), "sockets as one machine" if devices > 1 else ""
    if row.tp is None or row.pp is None or row.dp is None:
        return Refusal("parallelism", f"how {devices:g} devices share the model is not stated")
    degrees = {name: value or 1.0 for name, value in stated.items()}
    if row.source.startswith(_CORES_COUNTED) or _counts_chips(row):
        degrees["tp"] = max(devices / (degrees["pp"] * degrees["dp"]), 1.0)
    used = degrees["tp"] * degrees["pp"] * degrees["dp"]
    if used != devices:
        return Refusal("parallelism", f"tp·pp·dp is {used:g} but {devices:g} devices are stated")
    return degrees, "" if row.ep else "expert parallelism of 1"


def _counts_chips(row: Row) -> bool:
    return "tp and dp count chips" in row.notes


def _lengths(row: Row, model: Transformer) -> tuple[float, float, str] | Refusal:
    """(prompt, output, what was assumed) in tokens; approximate lengths in words are taken and said."""
    said = []
    inputs, outputs = row.input_tokens, row.output_tokens
    if inputs is None and (about := notes.input_tokens(row)) is not None:
        inputs = about.value
        said.append(about.said)
    if outputs is None and (about := notes.output_tokens(row)) is not None:
        outputs = about.value
        said.append(about.said)
    if inputs is None and outputs is None and model.kind == "encoder-decoder":
        inputs = outputs = _SHORT_TOKENS
        said.append(f"lengths not stated: a sentence and its translation, {_SHORT_TOKENS:g} tokens each")
    if row.phase == "prefill":
        outputs = outputs if outputs is not None else 0.0
    if row.phase == "decode" and inputs is not None and outputs is None:
        outputs = 1.0
        said.append("output length not stated: the context is the prompt")
    if row.phase == "decode" and inputs is None and outputs is not None:
        inputs = 0.0
        said.append("prompt length not stated: short")
    if row.phase == "decode" and inputs is None:
        inputs, outputs = 0.0, 1.0
        said.append("lengths not stated: a short context")
    if row.phase != "prefill" and inputs is None and outputs:
        inputs = _SHORT_TOKENS
        said.append(f"prompt length not stated: {_SHORT_TOKENS:g} tokens")
    if row.phase == "prefill" and inputs is None and row.metric == "ttft_s":
        inputs = _USUAL_PROMPT
        said.append(f"prompt length not stated: {_USUAL_PROMPT:g} tokens")
    if inputs is None or outputs is None:
        which = " and ".join(n for n, v in (("prompt", inputs), ("output", outputs)) if v is None)
        return Refusal("lengths", f"{which} length not stated")
    if row.phase in ("decode", "generate", "serve") and outputs < 1:
        return Refusal("lengths", "no token is generated")
    return inputs, outputs, "; ".join(said)


def _load(row: Row) -> tuple[Load, float] | Refusal:
    """(kind of load, sequences) of a row."""
    if row.phase != "serve":
        if row.batch is not None:
            return "static", row.batch
        full = any(words in row.notes for words in _FULL_LOAD)
        return ("full", _INFINITE) if full and row.metric.endswith("_per_s") else Refusal("batch", "batch not stated")
    if row.batch is not None:
        return "closed", row.batch
    at_once = notes.requests_at_once(row)
    if at_once is not None:
        return "full", at_once
    if any(words in row.notes for words in _FULL_LOAD):
        return (
            ("full", _INFINITE)
            if row.metric.endswith("_per_s")
            else Refusal("batch", "latency at full load depends on the queue")
        )
    return Refusal("batch", "neither batch nor concurrency is stated")
