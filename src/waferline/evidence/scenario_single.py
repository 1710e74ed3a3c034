"""Rows of encoders and convolutional networks: one pass over a batch."""

from __future__ import annotations

from waferline.evidence import notes
from waferline.evidence.names import counted_name, engine_name, names, precision_of
from waferline.evidence.networks import counted
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import Row
from waferline.predict.engine import get_engine
from waferline.workloads.spec import ModelSpec, Transformer
from waferline.workloads.streams import StreamNet

_ANSWERS = {"latency_s": "latency_s", "ttft_s": "latency_s", "samples_per_s": "samples_per_s"}
# Mean tokens of an input: SQuAD 1.1 as MLPerf pads nothing (offline) and the sentences that sentence embedders are tested with.
_LENGTHS = {"MLPerf": 178.0, "optimum-habana": 15.0}
_MULTI_STREAM_SAMPLES = 8.0  # of one query of the scenario (MLPerf Inference rules, section 3.1)
_BATCH_OF_SCENARIO = {"MLPerf SingleStream": 1.0, "MLPerf MultiStream": _MULTI_STREAM_SAMPLES}
_UNPADDED = "real mean length = seq/2"  # in the notes of rows whose padding is not computed
_REFERENCES = (
    "mlcommons reference",
    "mlcommons python reference",
)  # mlcommons/inference: its back ends do not batch by default
_OFFLINE_BATCH = 256.0  # samples in flight on one device: past the knee of every network here


_PER_STEP = "DENOISING ITERATIONS"  # in the notes of rows whose rate counts steps
_ITERATIONS = 50  # of a diffusion pipeline that no row states: the default of most
_TEXT_TOKENS = 128.0  # of an encoder's input where a row does not say: what most of such tables ran


def single_request(row: Row, model: ModelSpec | Refusal, hardware: str, assumed_hardware: str) -> Request | Refusal:
    """The question that a row of a one-pass network asks, with what had to be assumed for it."""
    if row.metric not in _ANSWERS:
        return Refusal("metric", f"{row.metric} is not a metric of one pass")
    engine, assumed_engine = engine_name(row, hardware, one_pass=True)
    engine = names()["networks"].get(row.model, {}).get("engines", {}).get(engine, engine)
    formats = precision_of(row, engine)
    if isinstance(formats, Refusal):
        return formats
    asked = _asked(row, model, engine)
    if isinstance(asked, Refusal):
        return asked
    name, answer, sequence, steps, size, assumed_pass = asked
    batch = _batch(row)
    if isinstance(batch, Refusal):
        return batch
    samples, assumed_batch = batch
    if samples > 1 and row.batch is None and row.metric == "samples_per_s":
        samples *= row.devices or 1.0  # what is in flight is of one device
    together = answer == "latency_s" and samples < (row.devices or 1.0) and not isinstance(model, StreamNet)
    shared = "devices share one sample: as if each did its part of it" if together else ""
    said = (assumed_hardware, assumed_engine, formats[2], assumed_pass, assumed_batch, shared)
    return Request(
        door="single",
        model=name,
        hardware=hardware,
        precision=formats[0],
        kv=formats[1],
        engine=engine,
        answer=answer,
        variant="infer",
        batch=samples,
        input_tokens=sequence,
        dp=row.devices or 1.0,
        steps=steps,
        image_size=size,
        threads=notes.threads(row),
        assumed=tuple(s for s in said if s),
    )


def counts_as_one_pass(row: Row) -> bool:
    """Whether a model that the catalogue lacks is a network known by its counts."""
    rule = names()["networks"].get(row.model, {})
    return row.metric in _ANSWERS and row.phase != "train" and counted(rule.get("counts", row.model)) is not None


Asked = tuple[str, str, float, int, str, str]


def _asked(row: Row, model: ModelSpec | Refusal, engine: str) -> Asked | Refusal:
    """(model, metric, tokens of an input, diffusion steps, size of an image, what was assumed)."""
    answer = "passes_per_s" if _PER_STEP in row.notes else _ANSWERS[row.metric]
    diffuses = isinstance(model, StreamNet) and model.steps
    if isinstance(model, Refusal) or not isinstance(model, Transformer | StreamNet):
        return _counted(row, model, answer, engine)
    if diffuses:
        stated = notes.count("steps", row.notes)
        steps = 1 if _PER_STEP in row.notes else stated or _default_steps(model)
        return row.model, answer, 1.0, steps, notes.image_size(row.notes), "" if stated else f"{steps} steps"
    if isinstance(model, Transformer) and model.kind == "encoder-decoder" and row.phase != "prefill":
        return Refusal("lengths", "decoder lengths of encoder-decoder models are not stated")
    if isinstance(model, Transformer) and model.kind == "encoder-decoder":
        return row.model, answer, row.input_tokens or float(model.encoder_tokens) or _TEXT_TOKENS, 0, "", "one pass"
    sequence, said = row.input_tokens or _fixed_length(model), ""
    if sequence and _UNPADDED in row.notes:
        sequence, said = sequence / 2.0, "padding is removed: half of the length, its mean"
    if sequence is None:
        sequence, said = _length_of(row)
    return row.model, answer, sequence, 0, "", said


def _counted(row: Row, model: ModelSpec | Refusal, answer: str, engine: str) -> Asked | Refusal:
    """A network by its counts where they are known: of every operator, also those that a fusing compiler hides."""
    rule = names()["networks"].get(row.model, {})
    called = rule.get("counts", row.model)
    size = int(rule.get("size", 0)) or max(notes.image_sides(row.notes), default=0)
    found = counted(called, size)
    if found is None:
        return model if isinstance(model, Refusal) else (row.model, answer, 1.0, 0, "", "")
    diffuses = bool(rule.get("passes"))
    steps = 1.0
    if diffuses:
        taken = 1 if _PER_STEP in row.notes else notes.count("steps", row.notes) or rule.get("steps", _ITERATIONS)
        steps = float(taken) * rule["passes"]
    steps *= rule.get("times", 1.0)
    fused = not get_engine(engine).eager
    name = counted_name(called, size=size, steps=steps, fused=fused)
    said = [f"{taken} steps"] if diffuses and not notes.count("steps", row.notes) else []
    if "counts" in rule:
        times = f", {rule['times']:g} times" if "times" in rule else ""
        said.append(f"{row.model} is counted as {called}{times}")
    return name, answer, 1.0, 0, "", "; ".join(said)


def _default_steps(model: ModelSpec) -> int:
    return int(getattr(model, "steps", 0)) or _ITERATIONS


def _length_of(row: Row) -> tuple[float, str]:
    """Tokens of a text whose length the row leaves out, and what was assumed."""
    for words, tokens in _LENGTHS.items():
        if words in row.source:
            return tokens, f"about {tokens:g} tokens, the benchmark's own inputs"
    return _TEXT_TOKENS, f"length not stated: {_TEXT_TOKENS:g} tokens"


def _fixed_length(model: ModelSpec) -> float | None:
    """The input length that the architecture fixes; an image network has one, a text encoder does not."""
    if isinstance(model, Transformer):
        return float(model.fixed_tokens) or None
    return 1.0


def _batch(row: Row) -> tuple[float, str] | Refusal:
    if row.batch is not None and "best-throughput" in row.notes:
        instances = notes.count("instances", row.notes) or 1
        return row.batch * instances, f"{instances} instances of the program run at once"
    if row.batch is not None:
        return row.batch, ""
    if row.engine.lower().startswith(_REFERENCES) and row.metric == "samples_per_s":
        return 1.0, "a reference implementation passes one sample at a time"
    for words, batch in _BATCH_OF_SCENARIO.items():
        if words in row.notes:
            return batch, ""
    if "MLPerf Offline" in row.notes:
        return _OFFLINE_BATCH, f"offline: {_OFFLINE_BATCH:g} samples in flight on a device"
    if "Offline" in row.notes or row.metric == "samples_per_s":
        return _OFFLINE_BATCH, f"batch not stated: {_OFFLINE_BATCH:g} samples in flight on a device"
    return Refusal("batch", "batch not stated")
