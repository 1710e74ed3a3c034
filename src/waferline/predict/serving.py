"""`ServingModel`: prefill and decode of a language model on a group of devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import Floats
from waferline.elementwise import anywhere
from waferline.errors import InvalidInputError, unknown
from waferline.formats import labels_of
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.beside import Beside, beside
from waferline.predict.blocks import over_blocks, over_labels
from waferline.predict.engine import Engine, default_engine, get_engine, with_memory_share
from waferline.predict.load import NO_LIMIT, check_load
from waferline.predict.offload import usual_engine
from waferline.predict.phase import Phase
from waferline.predict.profile import Profile, load_profile
from waferline.predict.result import Field, GenerationResult, WhenRead, merged_sources
from waferline.predict.serving_case import Arguments, inputs_of, parallel_of, serving_case, without_towers
from waferline.predict.techniques import Applied, applied, on_machine
from waferline.workloads.load import load_model
from waferline.workloads.lower import joined_tokens, prompt_of
from waferline.workloads.scenario import MOST_COUNT, common_shape, real, whole
from waferline.workloads.spec import Transformer

_NOT_MODELLED = (
    "speculative decoding",
    "prefix caching",
    "imbalance between experts beyond the expected number that a batch touches",
    "clock throttling, and other tenants of the same host",
    "power of hosts, switches and buildings; of devices that are no GPUs it follows assumed shares of the limit",
)
_HOST_NOT_MODELLED = "what a host draws and costs, and copies from memory that is not pinned"
# What each load leaves out, beside that.
NOT_MODELLED: Mapping[str, tuple[str, ...]] = {
    "static": (
        "queueing and arrivals: every request starts at once",
        "prefill and decode steps that interleave (chunked prefill under load)",
        *_NOT_MODELLED,
    ),
    "closed": ("arrivals at a given rate, and percentiles: the load is steady and its times are means", *_NOT_MODELLED),
    "burst": ("percentiles: times are means over the burst", *_NOT_MODELLED),
    "full": ("latency goals: the queue never empties", *_NOT_MODELLED),
}


class ServingResult(GenerationResult):
    """What `ServingModel.solve` answers. Every field broadcasts over scenarios."""

    model_weights_size = Field("weights_bytes", "All weights as stored, all devices together")
    kv_cache_size = Field("kv_cache_bytes", "KV cache of all sequences, all devices together")
    memory_per_device = Field("device_memory_bytes", "Everything on the fullest device")
    total_memory_required = Field("total_memory_bytes", "The same of all devices together, each as full as the fullest")
    memory_utilization = Field("memory_utilization", "That, as a share of the device's capacity")
    usable_memory = Field("usable_bytes", "What the engine takes of the device's capacity")
    max_batch_size = Field("max_batch_size", "Sequences that fit at these lengths: as many fit, one more does not")
    kv_capacity = Field(
        "kv_capacity_tokens", "Tokens that the caches of all replicas hold, in sequences of one context"
    )
    prefill_bottleneck = Field("prefill_bottleneck", "compute, memory, link or overhead")
    decode_bottleneck = Field("decode_bottleneck", "compute, memory, link or overhead")
    bottleneck = Field("decode_bottleneck", "The decode bottleneck")
    cost_per_mtoken = Field("cost_usd_per_mtoken", "Hourly price of all devices per million generated tokens")
    loaded_ttft = Field("loaded_ttft_s", "Time to first token under the load asked for")
    loaded_tpot = Field("loaded_tpot_s", "Time per output token under the load asked for")
    loaded_throughput = Field("loaded_throughput_tokens_per_s", "Generated tokens per second of all devices under load")
    running_sequences = Field(
        "running_sequences", "Sequences that decode together under load: asked, or what memory holds"
    )
    light_loaded_ttft = Field("light_loaded_ttft_s", "Bound of `loaded_ttft`: the prefill of one prompt alone")
    light_loaded_tpot = Field("light_loaded_tpot_s", "Bound of `loaded_tpot`: a decode step of the running sequences")


@dataclass(frozen=True, slots=True)
class ServingModel:
    """Closed-form serving: one prefill of the whole batch, then decode steps at the mean context of the generation.

    Sources: roofline (Williams 2009); KV and FLOP counting as in `waferline.workloads`; constants as each operator names.
    """

    def solve(
        self,
        model: Any,
        hardware: Any,
        seq_len: Any,
        batch_size: Any = 1,
        precision: Any = "fp16",
        *,
        output_len: Any = 0,
        kv: str | None = None,
        tp: Any = 1,
        pp: Any = 1,
        ep: Any = 1,
        dp: Any = 1,
        engine: str | None = None,
        profile: Profile | str | None = None,
        load: str = "static",
        concurrency: Any = NO_LIMIT,
        images: Any = None,
        clips: Any = None,
        context: Any = None,
        memory_share: float | None = None,
        offload: str | None = None,
        host: Any = None,
        techniques: Any = None,
        draft_model: Any = None,
        draft_acceptance_rate: float | None = None,
        intervals: bool = True,
        only: str = "",
    ) -> ServingResult:
        """Time, memory, energy and cost of `batch_size` requests of `seq_len` prompt and `output_len` output tokens.

        Numbers and `precision` may be arrays; they broadcast as in NumPy (`waferline.grid` makes every combination).
        `batch_size` counts sequences over all `dp` replicas. `tp`, `pp`, `ep`, `dp` as in `Parallel`. profile: a calibration
        (or its file) of `waferline calibrate`. load: static (one batch), or with fields `loaded_*` beside it: closed
        (`batch_size` clients that send a request when theirs is done), burst (all requests at once), full (a queue that
        never empties: the batch is what memory and the scheduler allow). concurrency: under load, the most sequences that
        run at once, beside what memory and the engine's scheduler allow. images, clips: inputs of the model's towers beside
        each prompt; the tokens they become join it. context: tokens that a sequence may grow to, for which the
        engine must have room (prompt and output unless given). memory_share: of a device's memory that the engine takes.
        offload: what leaves the device (see `catalog/offload.yaml`), to `host`: a CPU, the machine's usual one unless given.
        techniques: what runs beside, in its order (`"prefix-cache:hit=0.6"` or a list; `waferline techniques` lists them).
        draft_model, draft_acceptance_rate: speculative decoding, as lessons ask for it. intervals: False leaves the 50 % and
        90 % intervals of a static batch out, for sweeps that only rank. only: "memory" leaves
        all times out, "decode" those of prefill, where nobody reads them (a static batch).
        Raises: UnknownNameError, InvalidInputError, UnsupportedError (a format or link the machine lacks).
        """
        spec, device = load_model(model), load_hardware(hardware)
        with_ = applied(_drafting(techniques, draft_model, draft_acceptance_rate))
        device = on_machine(with_, device)
        if not isinstance(spec, Transformer) or not spec.has_head:
            raise InvalidInputError(f"{spec.name} does not generate tokens", hint="use SingleNodeModel for it")
        if host is not None and offload is None:
            raise InvalidInputError("host would not be read: nothing is offloaded to it")
        if only not in _ONLY:
            raise unknown("part of an answer", only, _ONLY)
        whole("concurrency", concurrency, most=NO_LIMIT)
        arguments = _numbers(
            batch_size=batch_size, seq_len=seq_len, output_len=output_len, tp=tp, pp=pp, ep=ep, dp=dp, context=context,
            concurrency=None if load == "static" else concurrency, images=images, clips=clips,
        )  # fmt: skip
        labels, inputs = labels_of(precision), inputs_of(arguments)
        shape = common_shape({**arguments, "precision": labels})
        axes = {k: v for k, v in {**arguments, "precision": labels}.items() if np.size(v) > 1}
        arguments["seq_len"] = arguments["seq_len"] + joined_tokens(spec, inputs)
        said = _context_notes(spec, arguments)
        if engine is None and offload is not None:
            engine = usual_engine(offload)
        runner = engine_of(device, spec, engine, profile, memory_share)
        if runner.towers_apart and not inputs:
            spec = without_towers(spec)
        left = beside(spec, device, runner, offload, host)
        if left is not None:
            left.check(parallel_of(arguments))
        case = serving_case(spec, device, runner, kv, check_load(load), intervals, left, with_, only)
        case.check_techniques()
        seen: dict[str, Phase] = {}
        kept = seen if not shape and not only else None  # of one point that somebody may look into
        values = over_labels(
            labels, arguments, lambda label, a: over_blocks(a, lambda part: case.values(label, part, kept))
        )
        return ServingResult(
            values=case.fields(values, arguments),
            extent=shape,
            coords=axes,
            about=case.about(labels),
            operators=WhenRead(lambda: case.rows(str(labels.flat[0]), arguments, seen)) if labels.size == 1 else (),
            sources=WhenRead(lambda: merged_sources(spec.sources, device.citations)),
            notes=(
                *case.notes(labels, arguments),
                *said,
                *(f"with {one.said()}: {one.technique.limits}" for one in with_),
            ),
            not_modelled=_left_out(load, with_, left),
        )


_ONLY = ("", "memory", "decode")
_LEAST = {"output_len": 0, "images": 0, "clips": 0}
_MOST = {"concurrency": NO_LIMIT}
_OPTIONAL = ("context", "concurrency", "images", "clips")
_KINDS = {"images": "image", "clips": "clip"}


def _numbers(**given: Any) -> dict[str, Floats]:
    """Numbers, checked, without optional ones that nobody gave; inputs of towers by their kind. Raises: InvalidInputError."""
    return {
        _KINDS.get(name, name): whole(name, value, least=_LEAST.get(name, 1), most=_MOST.get(name, MOST_COUNT))
        for name, value in given.items()
        if value is not None or name not in _OPTIONAL
    }


def _drafting(techniques: Any, model: Any, acceptance: float | None) -> Any:
    """Techniques with speculative decoding as lessons ask for it. Raises: InvalidInputError for an acceptance without a model."""
    if model is None:
        if acceptance is not None:
            raise InvalidInputError("draft_acceptance_rate would not be read: there is no draft_model")
        return techniques
    share = "" if acceptance is None else f",acceptance={acceptance}"
    others = [techniques] if isinstance(techniques, str) else techniques or ()
    return [*others, f"speculative:draft={load_model(model).name}{share}"]


def _left_out(load: str, techniques: tuple[Applied, ...], left: Beside | None) -> tuple[str, ...]:
    """What this very answer does not model."""
    asked = {one.technique.replaces for one in techniques}
    return (*(n for n in NOT_MODELLED[load] if n not in asked), *((_HOST_NOT_MODELLED,) if left is not None else ()))


def engine_of(
    device: Device,
    model: Transformer,
    name: str | None = None,
    profile: Profile | str | None = None,
    memory_share: float | None = None,
) -> Engine:
    """The engine that runs: the one named or the usual one, with the calibration and the share of memory that were given.

    Raises: UnknownNameError, FileFormatError, InvalidInputError.
    """
    engine = default_engine(device, model) if name is None else get_engine(name)
    if profile is not None:
        engine = (profile if isinstance(profile, Profile) else load_profile(profile)).over(engine, device)
    if memory_share is not None:
        engine = with_memory_share(engine, float(real("memory_share", memory_share, least=0.01, most=1.0)))
    return engine


def _context_notes(model: Transformer, a: Arguments) -> tuple[str, ...]:
    """What to say of the longest context. Raises: InvalidInputError where it is shorter than prompt and output."""
    tokens = prompt_of(model, a["seq_len"], inputs_of(a))[0] + a["output_len"]
    context = a.get("context", tokens)
    if anywhere(np.asarray(context < tokens)):
        short = np.asarray(context < tokens)
        least, most = (np.broadcast_to(x, short.shape)[short].flat[0] for x in (context, tokens))
        raise InvalidInputError(f"a context of {least:g} tokens is shorter than prompt and output, {most:g} tokens")
    longest, rule = float(np.max(context)), f" ({model.context_rule})" if model.context_rule else ""
    made_for = f"the context of {model.max_positions:,}{rule} that {model.name} was made for"
    if 0 < model.max_positions < longest:
        return (f"{longest:,.0f} tokens are beyond {made_for}",)
    return (f"{longest:,.0f} tokens are within {made_for}",) if rule and "context" in a else ()
