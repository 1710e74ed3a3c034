"""Rows of encoders and convolutional networks: one pass over a batch."""

from __future__ import annotations

from waferline.evidence import benchmarks, notes
from waferline.evidence.machines import machine
from waferline.evidence.metrics import ENERGY, TO_TRAIN, TRAINING
from waferline.evidence.names import MASKED, counted_name, engine_name, names, precision_of, usual_format
from waferline.evidence.networks import Form, counted
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import REFERENCES, Row
from waferline.formats import get_format
from waferline.predict.engine import get_engine
from waferline.predict.versions import earlier
from waferline.workloads.spec import ModelSpec, Transformer
from waferline.workloads.streams import StreamNet

_ANSWERS = {"latency_s": "latency_s", "ttft_s": "latency_s", "samples_per_s": "samples_per_s", ENERGY: ENERGY}
_TRAINED = {"samples_per_s": "samples_per_s", "step_time_s": "latency_s", TO_TRAIN: "latency_s"}
_EAGER = "pytorch-network"
_COMPILED = "pytorch-compiled-network"  # what stands for a step that its submitter has fused and captured
# Mean tokens of an input: SQuAD 1.1 as MLPerf pads nothing (offline) and the sentences that sentence embedders are tested with.
_LENGTHS = {"MLPerf": 178.0, "optimum-habana": 15.0}
_MULTI_STREAM_SAMPLES = 8.0  # of one query of the scenario (MLPerf Inference rules, section 3.1)
# `SentenceTransformer.encode` takes 32 sentences at a time where nobody says more (sbert.net, package reference).
_BATCH_OF_SCENARIO = {
    "MLPerf SingleStream": 1.0,
    "MLPerf MultiStream": _MULTI_STREAM_SAMPLES,
    "by sentence-transformers": 32.0,
}
_CORES = 2.0  # of an Inferentia2 or Trainium chip (AWS Neuron documentation, NeuronCore-v2)
# Rows whose padding is not computed: said in their notes, or of a program that draws each length below the one it names
# (FasterTransformer, examples/cpp/bert/bert_triton_example.cc).
_UNPADDED = ("real mean length = seq/2", "BERT-6B performance on A100 and triton example")
_OFFLINE_BATCH = 256.0  # samples in flight on one device: past the knee of every network here


_PER_STEP = "DENOISING ITERATIONS"  # in the notes of rows whose rate counts steps
_ITERATIONS = 50  # of a diffusion pipeline that no row states: the default of most
_TEXT_TOKENS = 128.0  # of an encoder's input where a row does not say: what most of such tables ran


def single_request(row: Row, model: ModelSpec | Refusal, hardware: str, assumed_hardware: str) -> Request | Refusal:
    """The question that a row of a one-pass network asks, with what had to be assumed for it."""
    if row.metric not in _ANSWERS:
        return Refusal("metric", f"{row.metric} is not a metric of one pass")
    if row.metric == ENERGY and machine(hardware).tdp_w is None:
        return Refusal("energy", f"the power of {hardware} is not known")
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
    devices, shared = _sharing(row, samples, answer == "latency_s" and not isinstance(model, StreamNet))
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
        dp=devices,
        steps=steps,
        image_size=size,
        threads=notes.threads(row),
        assumed=tuple(s for s in said if s),
    )


def _sharing(row: Row, samples: float, one_batch: bool) -> tuple[float, str]:
    """(devices that work on a batch, what was assumed): of fewer samples than devices, unless a row says that it cuts the model."""
    devices = row.devices or 1.0
    if not one_batch or samples >= devices:
        return devices, ""
    if (row.tp or 1.0) * (row.pp or 1.0) > 1.0:
        return devices, "devices share one sample: as if each did its part of it"
    return max(samples, 1.0), "devices without a sample wait"


def counts_as_one_pass(row: Row) -> bool:
    """Whether a model that the catalogue lacks is a network known by its counts."""
    rule = names()["networks"].get(row.model, {})
    return row.metric in (*_ANSWERS, *TRAINING) and counted(rule.get("counts", row.model)) is not None


def network_training_request(
    row: Row, model: ModelSpec | Refusal, hardware: str, assumed_hardware: str
) -> Request | Refusal:
    """The question that an optimizer step of a network by its counts answers: replicas share the batch and exchange gradients."""
    rule, rules = names()["networks"].get(row.model, {}), benchmarks.training(row)
    called = rule.get("counts", row.model)
    run = rules.to_converge(row.batch) if row.batch and row.metric == TO_TRAIN else None
    stated = row.weight_format or usual_format(row)
    lacks = (
        ("metric", row.metric not in _TRAINED, f"{row.metric} is not predicted of a network's training"),
        ("model", counted(called) is None, f"training of {row.model} has no stated configuration"),
        ("batch", row.batch is None, "global batch not stated"),
        ("convergence", row.metric == TO_TRAIN and run is None, f"what {row.model} needs to converge is not known"),
        ("format", not stated, "compute format not stated"),
    )
    for kind, fails, why in lacks:
        if fails:
            return Refusal(kind, why)
    engine, assumed_engine = engine_name(row, hardware, one_pass=True)
    tuned = row.source.startswith("MLPerf") and "tinygrad" not in row.engine
    name = counted_name(
        called, size=int(rule.get("size", 0)), steps=rule.get("times", 1.0), form="fused" if tuned else "eager"
    )
    batch = row.batch or 1.0
    said = (
        assumed_hardware,
        "a submitted step, compiled and fused" if tuned else assumed_engine,
        "" if row.weight_format else f"compute format not stated: taken as {stated}",
        f"{row.model} is counted as {called}",
        f"a run of {run:g} samples, the benchmark's reference; evaluation and start are not counted" if run else "",
    )
    made = {"step": True, "convergence": run is not None}
    return Request(
        door="single",
        model=name,
        hardware=hardware,
        precision=get_format(stated).name,
        engine=_COMPILED if tuned else engine,
        answer=_TRAINED[row.metric],
        variant="train",
        batch=max(batch / rule.get("holds", 1), 1.0),
        inputs=batch,
        passes=(run or batch) / batch,
        dp=row.devices or 1.0,
        assumed=tuple(s for s in said if s),
        guesses=tuple(kind for kind, is_made in made.items() if is_made),
    )


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
    if sequence and any(said in row.notes + row.locator for said in _UNPADDED):
        sequence, said = sequence / 2.0, "padding is removed: half of the length, its mean"
    if sequence is None:
        sequence, said = _length_of(row)
    masked = isinstance(model, Transformer) and model.kind == "encoder" and notes.task(row.notes) == "fill-mask"
    return (MASKED if masked else "") + row.model, answer, sequence, 0, "", said


def _counted(row: Row, model: ModelSpec | Refusal, answer: str, engine: str) -> Asked | Refusal:
    """A network by its counts where they are known: of every operator, also those that a fusing compiler hides."""
    rule = names()["networks"].get(row.model, {})
    called = rule.get("counts", row.model)
    size = notes.image_side(row.notes) or int(rule.get("size", 0))
    found = counted(called, size)
    if found is None:
        return model if isinstance(model, Refusal) else (row.model, answer, 1.0, 0, "", "")
    diffuses = bool(rule.get("passes"))
    steps = 1.0
    if diffuses:
        taken = 1 if _PER_STEP in row.notes else notes.count("steps", row.notes) or rule.get("steps", _ITERATIONS)
        steps = float(taken) * rule["passes"]
    steps *= rule.get("times", 1.0)
    name = counted_name(called, size=size, steps=steps, form=_form(row, engine))
    said = [f"{taken} steps"] if diffuses and not notes.count("steps", row.notes) else []
    if "counts" in rule:
        times = f", {rule['times']:g} times" if "times" in rule else ""
        said.append(f"{row.model} is counted as {called}{times}")
    return name, answer, 1.0, 0, "", "; ".join(said)


def _form(row: Row, engine: str) -> Form:
    """How a network runs: PyTorch has attention in one kernel since 2.0 (scaled_dot_product_attention)."""
    if not get_engine(engine).eager:
        return "fused"
    torch = engine == _EAGER and not earlier(row.engine_version, "2.0")
    return "eager" if torch else "apart"


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
    if row.batch is not None and row.source.startswith("AWS Neuron") and "Data Parallel" in row.notes:
        return row.batch * _CORES, "a batch on each of a chip's cores"
    if row.batch is not None and "best-throughput" in row.notes:
        instances = notes.count("instances", row.notes) or 1
        return row.batch * instances, f"{instances} instances of the program run at once"
    if row.batch is not None or row.metric == ENERGY:
        return row.batch or 1.0, "" if row.batch else "energy of one sample at a time"
    if row.engine.lower().startswith(REFERENCES) and row.metric == "samples_per_s":
        return 1.0, "a reference implementation passes one sample at a time"
    for words, batch in _BATCH_OF_SCENARIO.items():
        if words in row.notes:
            return batch, ""
    if "MLPerf Offline" in row.notes:
        return _OFFLINE_BATCH, f"offline: {_OFFLINE_BATCH:g} samples in flight on a device"
    if "Offline" in row.notes or row.metric == "samples_per_s":
        return _OFFLINE_BATCH, f"batch not stated: {_OFFLINE_BATCH:g} samples in flight on a device"
    return Refusal("batch", "batch not stated")
