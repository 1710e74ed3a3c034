"""Published effects of techniques: every row asked with the technique and without it, of the same model on the same machine.

The effect is the ratio of the two predictions. Where a row states what it was compared with, that figure times the ratio is the
prediction: the row then checks the technique alone. Where it does not, the prediction with the technique stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from waferline.catalog.table_file import number_in
from waferline.catalog.yaml_file import read_file
from waferline.errors import WaferlineError
from waferline.evidence.attention_kernels import NAMED, kernel_rate
from waferline.evidence.machines import machine as machine_named
from waferline.evidence.metrics import READERS, Sizes, Times
from waferline.evidence.names import engine_name, hardware_name, model_spec, precision_of
from waferline.evidence.outcome import Outcome
from waferline.evidence.report import Report
from waferline.evidence.request import Refusal
from waferline.evidence.rows import Row, rows_of
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.workloads.spec import MixtureOfExperts, Transformer

MARKS = ("technique", "technique_settings")  # columns that say that a file is of this kind
_MORE = (*MARKS, "baseline_value", "speedup", "hit_rate", "acceptance")
_DATA = Path(__file__).parent / "data"
_PROMPT, _OUTPUT = 1024.0, 256.0  # tokens of a request where a row states none
_SLOPE, _CONTEXTS = "itl_slope_s_per_context_token", (256.0, 125_000.0)  # tokens: vLLM's blog on FP8 caches
_STEPS = re.compile(r"accepted tokens per step ([\d.]+)")
_SETTING = re.compile(r",(?![^(]*\))")


@dataclass(frozen=True, slots=True)
class Effect:
    """A row with its technique. baseline: the metric without it; hit: share of prompt tokens cached; acceptance: above 1 the
    mean accepted length, else the share of drafted tokens that were accepted."""

    row: Row
    technique: str
    settings: Mapping[str, str]
    baseline: float | None
    hit: float | None
    acceptance: float | None


def read_effects(path: str | Path) -> list[Effect]:
    """All rows of a file of effects. Raises: FileFormatError naming the line and what is wrong there."""
    found = []
    for row, cells in rows_of(path, _MORE):
        settings = dict(
            part.partition("=")[::2] for part in _SETTING.split(cells.get("technique_settings", "")) if part
        )
        numbers = [number_in(cells, name) for name in ("baseline_value", "hit_rate", "acceptance")]
        found.append(Effect(row, cells.get("technique", ""), settings, *numbers))
    return found


@cache
def _table() -> Mapping[str, Any]:
    return read_file(_DATA / "techniques.yaml")


def check_effects(effects: Sequence[Effect], progress: Callable[[int], None] | None = None) -> Report:
    """Predict each effect or say why not."""
    outcomes = []
    for effect in effects:
        try:
            found = _answer(effect)
        except WaferlineError as error:
            found = Refusal(error.kind, str(error))
        if isinstance(found, Refusal):
            outcomes.append(Outcome(row=effect.row, refused=found.reason, refused_kind=found.kind))
        else:
            value, assumed = found
            low, high = (value * np.exp(q) for q in _ends(effect))
            outcomes.append(
                Outcome(
                    row=effect.row,
                    predicted=value,
                    low90=float(low),
                    high90=float(high),
                    tier="technique",
                    assumed=assumed,
                )
            )
        if progress is not None:
            progress(1)
    return Report(tuple(outcomes))


def _ends(effect: Effect) -> tuple[float, float]:
    low, high = _table()["residual"][family(effect.technique)]
    return float(low), float(high)


def family(technique: str) -> str:
    """The kind of technique whose errors are alike."""
    return technique.split("-")[0]


def asked_of(effect: Effect) -> str:
    """The technique of `--with` that answers a row, or the row's own name."""
    entry = _table()["techniques"].get(effect.technique)
    if entry:
        return str(entry["with"]).partition(":")[0]
    return next(
        (name for begins, (name, _) in _OPTIONS.items() if effect.technique.startswith(begins)), effect.technique
    )


def same_side(effect: Effect, outcome: Outcome) -> bool | None:
    """Whether prediction and publication lie on the same side of the figure without the technique; None where none is stated."""
    row, without = effect.row, 1.0 if effect.row.metric == "speedup_ratio" else effect.baseline
    if without is None or outcome.predicted is None or row.value == without:
        return None
    return (outcome.predicted > without) == (row.value > without)


def _answer(effect: Effect) -> tuple[float, tuple[str, ...]] | Refusal:
    row = effect.row
    if row.kind == "simulated":
        return Refusal("kind", "a simulated value, not a measurement")
    if row.model.startswith(NAMED):
        return kernel_rate(row, effect.settings, effect.baseline, _table()["attention_kernels"])
    if row.metric == "accept_length":
        return Refusal("metric", "how many drafts are accepted is given to a prediction: no effect of it")
    if row.metric not in _RATIOS and row.metric != "speedup_ratio":
        return Refusal("metric", f"{row.metric} is not predicted of a technique")
    ways = compared(effect)
    if isinstance(ways, Refusal):
        return ways
    with_it, without, assumed = ways
    metric = _metric(effect)
    after = value_of(with_it, metric)
    if without is None:
        return after, assumed
    before = value_of(without, metric)
    if row.metric == "speedup_ratio":
        return (after / before if metric.endswith("_per_s") else before / after), assumed
    if effect.baseline is not None:
        return effect.baseline * after / before, (*assumed, "times the published figure without it")
    return after, assumed


def compared(effect: Effect) -> Ways | Refusal:
    """The scenario with the technique, the one that it is compared with, and what was taken for what the row does not state."""
    case = _case(effect)
    if isinstance(case, Refusal):
        return case
    ways = _ways(effect, case[0])
    return ways if isinstance(ways, Refusal) else (*ways[:2], (*case[1], *ways[2]))


# What each metric of a row is read as; of a ratio, what users of the technique compare.
_RATIOS: Mapping[str, str] = {
    name: name
    for name in ("ttft_s", "tpot_s", "latency_s", "prompt_tokens_per_s", "output_tokens_per_s", "samples_per_s", _SLOPE)
} | {"total_tokens_per_s": "output_tokens_per_s", "output_tokens_per_s_per_device": "output_tokens_per_s"}


def _metric(effect: Effect) -> str:
    row = effect.row
    if effect.technique.startswith("speculative") and row.metric in (
        "speedup_ratio",
        "output_tokens_per_s",
        "samples_per_s",
    ):
        return "decoded_tokens_per_s"  # such sources time the answer, not the prompt
    if row.metric == "speedup_ratio":
        return "prompt_tokens_per_s" if row.phase == "prefill" else "output_tokens_per_s"
    if row.phase == "decode" and row.metric == "output_tokens_per_s":
        return "decoded_tokens_per_s"
    return _RATIOS[row.metric]


def value_of(scenario: Scenario, metric: str) -> float:
    """The metric of an answer."""
    if metric == _SLOPE:  # between the ends of the contexts that were measured
        first, last = (value_of(replace(scenario, prompt=n, output=2.0), "tpot_s") for n in _CONTEXTS)
        return (last - first) / (_CONTEXTS[1] - _CONTEXTS[0])
    result = run(scenario).result
    batch, prompt, output = (np.asarray(float(x)) for x in (scenario.batch, scenario.prompt, scenario.output))
    sizes = Sizes(batch, prompt, output)
    return float(READERS[metric](Times(result["ttft_s"], result["itl_s"]), sizes))


def _case(effect: Effect) -> tuple[Scenario, tuple[str, ...]] | Refusal:
    """The row without its technique, and what was taken for what it does not state."""
    row, said = effect.row, []
    spec = model_spec(row.model)
    if isinstance(spec, Refusal):
        return spec
    used = _first(effect.settings, "experts_used")
    if used is not None and isinstance(spec, Transformer):
        spec = _fewer_experts(spec, used)
    machine = row.hardware or "unstated"
    if machine in _table()["machines"]:
        if effect.baseline is None and row.metric != "speedup_ratio" and machine not in _table()["same"]:
            return Refusal("hardware", f"the machine is {machine}, and what the row is compared with is not stated")
        said.append(f"the machine is {machine}: {_table()['machines'][machine]}")
        machine = _table()["machines"][machine]
    named = hardware_name(machine)
    if isinstance(named, Refusal):
        return named
    engine, assumed = engine_name(row, named[0])
    formats = precision_of(row, engine) if row.weight_format else (None, row.kv_format or None, "formats as usual here")
    if isinstance(formats, Refusal):
        return formats
    batch = row.batch or _first(effect.settings, "batch", "clients") or 1.0
    prompt, output = row.input_tokens, row.output_tokens
    if prompt is None or output is None:
        said.append(f"lengths not stated: {prompt or _PROMPT:g} and {output or _OUTPUT:g} tokens")
    tp = row.tp or row.devices
    scenario = Scenario(
        model=spec, machine=named[0], engine=engine, precision=formats[0], kv=formats[1], batch=max(batch, 1.0),
        prompt=max(_PROMPT if prompt is None else prompt, 1.0), output=max(_OUTPUT if output is None else output, 1.0),
        tp=tp, intervals=False, strategy="tensor-parallel",
    )  # fmt: skip
    if tp is None:
        scenario = replace(scenario, devices="auto", tp=None)
        said.append("as few devices as hold it")
    return scenario, tuple(s for s in (named[1], assumed, formats[2], *said) if s)


def _fewer_experts(model: Transformer, used: float) -> Transformer:
    """The model as an engine runs it that asks fewer experts of each token than the model was made for."""
    few = lambda f: replace(f, experts_per_token=int(min(used, f.experts_per_token)))  # noqa: E731
    blocks = (replace(b, ffn=few(b.ffn)) if isinstance(b.ffn, MixtureOfExperts) else b for b in model.blocks)
    return replace(model, blocks=tuple(blocks))


def _first(settings: Mapping[str, str], *names: str) -> float | None:
    for name in names:
        try:
            return float(settings[name])
        except (KeyError, ValueError):
            continue
    return None


Ways = tuple[Scenario, Scenario | None, tuple[str, ...]]


def _ways(effect: Effect, scenario: Scenario) -> Ways | Refusal:
    """The scenario with the technique and the one it is compared with (none where it stands for itself), and what was taken."""
    name = effect.technique
    if name in _table()["techniques"]:
        return _with(effect, scenario, _table()["techniques"][name])
    for begins, ways in _OPTIONS.items():
        if name.startswith(begins):
            return ways[1](effect, scenario)
    return Refusal("technique", f"the technique '{name}' is not modelled")


def _with(effect: Effect, scenario: Scenario, entry: Mapping[str, Any]) -> Ways | Refusal:
    said = []
    filled: dict[str, Any] = {}
    if "tokens" in entry:
        stated = _first(effect.settings, "tokens", "steps", "k")
        tokens = stated or float(entry["tokens"])
        accepted = effect.acceptance
        if accepted is None and (found := _STEPS.search(effect.row.notes)):
            accepted = float(found[1])
        if accepted is None:
            accepted = float(entry["accepted"])
            said.append(f"{accepted:g} tokens accepted in a cycle: not stated")
        filled = {"tokens": f"{tokens:g}"}
        if accepted > 1.0:
            tokens = max(tokens, np.ceil(accepted - 1.0))  # trees of drafts yield more than a chain of their depth
            filled = {"tokens": f"{tokens:g}", "accepted": f"accepted={accepted:g}"}
        else:
            filled["accepted"] = f"acceptance={accepted:g}"
        if stated is None:
            said.append(f"{tokens:g} tokens drafted in a cycle: not stated")
    elif "{rank}" in entry["with"]:
        adapters, rank = _first(effect.settings, "adapters", "max_loras"), _first(effect.settings, "rank")
        if adapters is None or rank is None or effect.baseline is None:
            return Refusal("adapters", "how many there are, their rank or the figure without them is not stated")
        filled = {"adapters": f"{adapters:g}", "rank": f"{rank:g}"}
    elif "{hit}" in entry["with"]:
        hit = effect.hit if effect.hit is not None else _hit(effect.settings)
        if hit is None:
            return Refusal("hit rate", "the share of tokens in the cache is not stated")
        filled = {"hit": f"{min(max(hit, 0.0), 1.0):g}"}
    if "{draft}" in entry["with"]:
        filled["draft"] = _draft(effect.settings.get("draft", "")) or entry["draft"]
    asked = str(entry["with"]).format(**filled)
    return replace(scenario, techniques=asked), replace(scenario, techniques=entry.get("without")), tuple(said)


def _draft(said: str) -> str:
    """A model of the catalogue that a row names as its draft, whatever its format; empty where it names none."""
    name = re.sub(r"[-_](q\d\w*|fp\d+|bf16|int\d)$", "", said.lower())
    return "" if not name or isinstance(model_spec(name), Refusal) else name


def _hit(settings: Mapping[str, str]) -> float | None:
    shared = _first(settings, "shared_prefix")
    own = _first(settings, "user_tokens", "suffix")
    return None if shared is None or own is None else shared / (shared + own)


def _kv_formats(effect: Effect, scenario: Scenario) -> Ways | Refusal:
    asked, base = effect.settings.get("kv"), effect.settings.get("baseline_kv")
    if not asked or not base:
        return Refusal("format", "the cache's formats with and without it are not stated")
    return replace(scenario, kv=_cache_format(asked)), replace(scenario, kv=_cache_format(base)), ()


def _cache_format(text: str) -> str:
    return re.split(r"[-_ ]", text.lower())[0]


_OF = re.compile(r"(\d+)(?: of (\d+))?")
_SOCKETS = re.compile(r"\b(\d)x (?:Xeon|EPYC)")


def _offload(effect: Effect, scenario: Scenario) -> Ways | Refusal:
    s = effect.settings
    layers = next((s[k] for k in ("layers_with_ffn_on_cpu", "n_cpu_moe") if k in s), None)
    if layers is not None and (count := _OF.match(layers)):
        text = f"experts={count[1]}"
    elif s.get("experts", "").startswith("cpu") or "gpu_experts_per_layer" in s:
        text = "experts"
    elif "ngl" in s:
        text = f"layers={s['ngl']}"
    else:
        return Refusal("offload", "what the host holds is not stated")
    kept = float(s.get("depth", 0) or 0)
    prompt = scenario.prompt if effect.row.phase == "prefill" else scenario.prompt + kept
    host, said = _host(effect)
    asked = replace(
        scenario,
        offload=text,
        host=None if host is None else machine_named(host, sockets=_sockets(effect)),
        prompt=prompt,
        strategy=None,
        tp=None,
        devices=None,
    )
    if effect.row.metric == "speedup_ratio":
        return Refusal("metric", "what an offload is compared with, a processor alone, is not asked of a device")
    return asked, None, said


def _host(effect: Effect) -> tuple[str | None, tuple[str, ...]]:
    """The host that a row names in words, as a machine of the catalogue, and what was taken for it."""
    told = f"{effect.settings.get('host', '').replace('-', ' ')} {effect.row.notes}".lower()
    for entry in _table()["hosts"]:
        if entry["named"].lower() in told:
            stands = f"the host is {entry['named']}: {entry['host']}, {entry['stands']}" if "stands" in entry else ""
            return str(entry["host"]), (stands,) if stands else ()
    return None, ()


def _sockets(effect: Effect) -> int:
    """Of the host, at work as one machine."""
    told = _SOCKETS.search(effect.row.notes)
    return int(_first(effect.settings, "sockets") or (told[1] if told else 1))


_OPTIONS: Mapping[str, tuple[str, Callable[[Effect, Scenario], Ways | Refusal]]] = {
    "kv-quantisation": ("kv-format", _kv_formats),
    "cpu-offload": ("offload", _offload),
}
