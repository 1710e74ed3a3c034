"""Rows of language models that generate tokens: prefill, decode, static batches and serving."""

from __future__ import annotations

import re
from dataclasses import replace

from waferline.evidence import benchmarks, notes
from waferline.evidence.groups import Degrees, fastest
from waferline.evidence.groups import said as said_group
from waferline.evidence.machines import machine
from waferline.evidence.metrics import ANSWERS
from waferline.evidence.names import engine_name, precision_of
from waferline.evidence.request import Load, Refusal, Request
from waferline.evidence.rows import REFERENCES, Row
from waferline.evidence.served_rows import is_served, served_request
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
    if (row.phase, row.metric) not in ANSWERS:
        return Refusal("metric", f"{row.metric} is not a predicted metric of served models")
    if row.phase == "serve" and is_served(row):
        return served_request(row, hardware)
    row, assumed_devices = notes.with_devices(row)
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
    limit = benchmarks.limit(row) if row.batch is None else None
    text = benchmarks.text(row) if row.input_tokens is None or row.output_tokens is None else None
    request = Request(
        door="wafer" if wafer else "serving",
        variant=grid[0] if grid else "",
        model=row.model,
        hardware=hardware,
        precision=precision,
        kv=kv,
        engine=engine,
        answer=ANSWERS[row.phase, benchmarks.metric(row)],
        load=load[0],
        batch=min(load[1], text.at_once) if text and load[0] == "full" else load[1],
        input_tokens=max(inputs, 1.0),  # llama-bench decodes after an empty prompt; a model needs one token to start
        output_tokens=outputs,
        beams=text.beams if text else 1,
        threads=notes.threads(row),
        sockets=_sockets(row, hardware),
    )
    group, assumed_group = degrees
    if group is not None:
        request = request.with_sizes(dict(zip(("tp", "pp", "ep", "dp"), group, strict=True)))
    if group is None or limit is not None:
        found = fastest(request, int(row.devices or 1), group, limit)
        if isinstance(found, Refusal):
            return found
        request = found
    if group is None:
        assumed_group = said_group(request)
    assumed_limit = f"{request.batch:g} sequences at once, as many as its limit of latency allows" if limit else ""
    said = (
        assumed_hardware,
        assumed_engine,
        assumed_format,
        assumed_lengths,
        assumed_devices,
        assumed_group,
        assumed_limit,
    )
    made = {
        "group": group is None,
        "benchmark": text is not None or limit is not None,
        "devices": assumed_devices != "",
    }
    guesses = tuple(name for name, is_made in made.items() if is_made)
    return replace(request, assumed=tuple(s for s in said if s), guesses=guesses)


def _sockets(row: Row, hardware: str) -> int:
    """Sockets that one process runs on; 1 where the row says how they share the model."""
    alone = (row.tp or 1.0) * (row.pp or 1.0) * (row.dp or 1.0) == 1.0
    return int(row.devices or 1) if alone and machine(hardware).kind == "cpu" else 1


def _parallel(row: Row, hardware: str) -> tuple[Degrees | None, str] | Refusal:
    """(tp, pp, ep, dp) over devices, None where the row leaves them open; a single device needs none stated."""
    devices = row.devices or 1.0
    if (devices == 1 and not _counts_chips(row)) or _sockets(row, hardware) > 1:
        return (1.0, 1.0, 1.0, 1.0), "sockets as one machine" if devices > 1 else ""
    if row.tp is None or row.pp is None or row.dp is None:
        return _partly(row, devices, hardware)
    tp, pp, ep, dp = row.tp, row.pp, row.ep or 1.0, row.dp
    if row.source.startswith(_CORES_COUNTED) or _counts_chips(row):
        tp = max(devices / (pp * dp), 1.0)
    if tp * pp * dp != devices:
        return Refusal("parallelism", f"tp·pp·dp is {tp * pp * dp:g} but {devices:g} devices are stated")
    return (tp, pp, ep, dp), "" if row.ep else "expert parallelism of 1"


def _partly(row: Row, devices: float, hardware: str) -> tuple[Degrees | None, str]:
    """The degrees of a row that states some: what it says of attention, or of experts, leaves the rest to the devices.

    An engine spreads experts over the ranks of a stage, so that attention's tp × dp is their number; it cuts attention by tensors
    inside the domain that links join, and gives ranks beyond it sequences of their own.
    """
    pp = row.pp or 1.0
    ranks = devices / pp
    wide = ranks > machine(hardware).reach("scale-up")
    if notes.attention_replicas(row) or (row.ep and wide):
        return (1.0, pp, row.ep or 1.0, ranks), ""
    if row.ep and row.ep > 1:
        return (ranks, pp, row.ep, 1.0), f"attention over {ranks:g} ranks by tensors"
    return None, ""


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
    if (text := benchmarks.text(row)) is not None and (inputs is None or outputs is None):
        inputs, outputs = inputs or text.prompt, outputs or text.output
        said.append(f"{text.named}: prompts of {inputs:g} tokens, answers of {outputs:g}")
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


def _all_at_once(row: Row) -> bool:
    """Whether every request is queued from the start."""
    return any(words in row.notes for words in _FULL_LOAD)


def _load(row: Row) -> tuple[Load, float] | Refusal:
    """(kind of load, sequences) of a row."""
    if row.phase != "serve" or "MLPerf SingleStream" in row.notes:
        batch = row.batch or notes.batch(row) or (1.0 if "MLPerf SingleStream" in row.notes else None)
        if batch is not None:
            return "static", batch
        return (
            ("full", _INFINITE)
            if _all_at_once(row) and row.metric.endswith("_per_s")
            else Refusal("batch", "batch not stated")
        )
    if row.batch is not None:
        return "burst" if benchmarks.in_step(row) else "closed", row.batch
    at_once = notes.requests_at_once(row)
    if at_once is not None:
        return "full", at_once
    if row.engine.lower().startswith(REFERENCES) and row.metric.endswith("_per_s"):
        return "static", 1.0
    if benchmarks.limit(row) is not None or _all_at_once(row):
        return (
            ("full", _INFINITE)
            if row.metric.endswith("_per_s")
            else Refusal("batch", "latency at full load depends on the queue")
        )
    return Refusal("batch", "neither batch nor concurrency is stated")
