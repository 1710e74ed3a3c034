"""Serving engines as facts: what the host adds to the operators, how the engine's kernels run, and the memory it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, NamedTuple

from waferline.arrays import Floats
from waferline.catalog.names import compact
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import maximum, minimum, where
from waferline.errors import unknown
from waferline.formats import get_format
from waferline.machines.device import Device
from waferline.predict.cpu_kernels import CpuKernels, engine_settings
from waferline.predict.versions import earlier
from waferline.remember import by_identity
from waferline.workloads.operator import Operator
from waferline.workloads.spec import ModelSpec

PASSES = ("prefill", "decode")
# What is fitted on runs; without any it is what `engines.yaml` assumes.
CONSTANTS: tuple[str, ...] = (
    "step_s", "kernel_s", "layer_s", "expert_layer_s", "sequence_s", "decode_excess", "decode_scale", "prefill_scale",
    "collective_scale", "unit_flops", "unit_bytes", "launch_s", "conv_scale", "issue_s", "spread_passes", "prompt_layer_s",
    "emulation",
)  # fmt: skip
OWN = "waferline"  # the engine whose kernels `measure machine` calibrates
_ABSTRACT = ("static", "none", OWN)  # what they assume is what they mean, or their operators say all
_X86 = ("intel", "amd")
_GRAPHICS = ("gpu", "soc")  # a vendor's cards and its chips with unified memory run the same kernels
# Sequences whose host work a step waits for; of larger batches the rest overlaps with the device.
HOST_SEQUENCES = 256.0
# Layers whose own time a step takes beyond its operators: models of 64 to 94 take as much as one another.
HOST_LAYERS = 64.0
_MATRIX_KINDS = ("gemm", "moe")  # the operators that a kernel's own ceiling holds for
_WIDE_BITS = 16  # of weights that are not quantised
HEAD = 128.0  # elements of a head that rates of attention are quoted for
# Of the time of a pair of query and key, what its exponential takes, which narrower heads need as well: FlashAttention-2 on an H100
# reaches 370 TFLOP/s with heads of 128 and 324 with heads of 64 (FlashAttention-3, arXiv:2407.08608, figure 5).
_EXPONENTIALS = 370.0 / 324.0 - 1.0
_UNLIMITED = float("inf")
_NO_TIME = 1e-15  # seconds: what moves nothing
# Tokens in flight where an engine has no scheduler to split a batch: assumed, as its callers split a batch that large.
_WHOLE_BATCH_TOKENS = 8192.0

Limit = float | tuple[Mapping[str, Any], ...]


class Limits(NamedTuple):
    """Sequences that decode together, and tokens that one pass takes."""

    sequences: float
    chunk_tokens: float


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs the model: see `catalog/engines.yaml` for the meaning, fit and source of each figure.

    step_s, kernel_s, layer_s, expert_layer_s, sequence_s: host time of a pass, per pass, operator, layer, expert layer and
    sequence (the last while decoding). prompt_layer_s: per layer of a pass that reads prompts, which no graph of decode steps
    replays. decode_excess: share that is left, inside a replayed graph, of what an operator alone
    takes above its bound. prefill_scale, decode_scale, collective_scale: the engine's kernels over the measured ones.
    unit_flops, unit_bytes: per clock and unit of the device, what the engine's matrix kernels reach at most;
    attention: the same of its attention over whole inputs with heads of 128, FLOPs by "vendor kind".
    eager: every operator is a kernel of its own, none is fused into another.
    fuses: activation functions run inside matrix products, and activations that are calibrated stay narrow between operators.
    tf32: kinds of operators that it multiplies in TF32 where fp32 is asked and the machine has it.
    row_tile: rows of the tile of a quantised product whose kernel for fewer rows reads the weights again for each.
    conv_scale: its convolutions over matrix products of their size; where images are `packed` as its kernels read them, their
    arithmetic alone: what memory takes is what it gives.
    launch_s: what the host takes to launch one operator while the device runs those before it; none takes less.
    emulation: of prompts, on devices whose units have no bfloat16, which most checkpoints are in, over `prefill_scale`.
    issue_s: what the host takes to issue one operator of a model that runs eagerly, experts one by one; the device works through
    them meanwhile, and no pass takes less than all of them.
    spread_above: sequences times query heads of a device beyond which a decode step's attention takes keys and values anew for
    every query head (a number, or rules by machine); spread_passes: how often, of what the cache would take alone.
    score_bytes: what its attention over whole inputs moves for every score of a query with a key, where it keeps them in memory.
    prompts_first: its scheduler reads every prompt that waits before it decodes on, in passes of their own.
    max_sequences, chunk_tokens: sequences that decode together and tokens of one pass, by default (see `limit`).
    residual: quantiles (5, 25, 75, 95 %) of log(measured / predicted) of whole passes on groups left out of the fit.
    cache, page_tokens, shared_slots, embedding_on_host, micro_batch_tokens, index_keys, towers_apart, cache_format,
    cache_share, pass_token_bytes, mxfp4_widths: `engine_memory.yaml`.
    machines: "vendor kind" that the constants were fitted on, empty where nothing was; vendors: constants of other ones.
    one_pass: the program of that name that runs networks which generate no tokens, where it is one of its own.
    known: "", or on a machine of a kind without runs "transferred" (a relative's constants) or "spec only" (assumed ones).
    """

    name: str
    title: str
    kernels: str
    step_s: float
    reserved_bytes: float
    memory_share: float
    layer_s: float = 0.0
    kernel_s: float = 0.0
    expert_layer_s: float = 0.0
    sequence_s: float = 0.0
    prompt_layer_s: float = 0.0
    decode_excess: float = 1.0
    decode_scale: float = 1.0
    prefill_scale: float = 1.0
    collective_scale: float = 1.0
    unit_flops: float = float("inf")
    unit_bytes: float = float("inf")
    launch_s: float = 0.0
    conv_scale: float = 1.0
    issue_s: float = 0.0
    spread_passes: float = 0.0
    emulation: float = 1.0
    spread_above: Limit = float("inf")
    wave_tokens: float = float("inf")  # tokens of a prompt that one pipeline stage takes at a time
    output_reserve: float = (
        0.0  # share of the tokens still to be generated that a sequence's place in memory is kept for
    )
    split: str = "tensor"  # how it spreads a model over devices by itself: tensor (then stages), or whole layers
    uneven_heads: bool = False  # tensor-parallel degrees need not divide the heads: they are padded
    cache: str = "whole"  # how sequences are held in memory: pages, groups, cells or whole (see `predict/kv_cache.py`)
    page_tokens: float = 1.0
    shared_slots: float = 0.0
    embedding_on_host: bool = False
    micro_batch_tokens: float = float("inf")
    index_keys: bool = True
    towers_apart: bool = False
    eager: bool = False
    prompts_first: bool = False
    score_bytes: float = 0.0
    fuses: bool = False
    packed: bool = False
    tf32: tuple[str, ...] = ()
    row_tile: float = 0.0
    attention: Mapping[str, float] = field(default_factory=dict)
    cache_format: str | None = None
    cache_share: float = 1.0
    pass_token_bytes: float = 0.0
    mxfp4_widths: tuple[float, ...] = ()
    max_sequences: Limit = float("inf")
    chunk_tokens: Limit = float("inf")
    residual: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    machines: str = ""
    vendors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    assumed: Mapping[str, float] = field(default_factory=dict)  # the constants as they are without a fit
    known: str = ""
    runs: str = ""  # the engine whose kernels and loop it has: that one's runs count
    one_pass: str = ""
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    cpu: CpuKernels | None = None  # its kernels on the cores of the CPU it runs on, where it has runs on CPUs

    def running_on(self, device: Device) -> Engine:
        """The engine with the constants it has on this vendor's machines of this kind.

        Constants never travel between kinds of machine: without runs on this one they are those of the generation before
        here, else of its nearest relative (another vendor's machines of the kind, or the vendor's other graphics), else assumed.
        What was measured with the engine on this very machine comes first.
        """
        if self.name in device.engines:
            return _as_measured(_on_family(self, family_of(device)), device)
        if device.kind == "cpu":
            return _on_cpu(self, device)
        there = _on_family(self, family_of(device))
        return there if there.emulation == 1.0 or "bf16" in device.peak_flops else _emulating(there)

    @property
    def pages(self) -> bool:
        """Whether a sequence holds what its tokens need, and not its whole context from the start."""
        return self.cache in ("pages", "groups")

    @property
    def memory_rule(self) -> str:
        """What decides whether a model fits, in words."""
        starts = "starts only if one sequence of the whole context fits, and runs as many as have room for their tokens"
        rule = starts if self.pages else "allocates the whole context of every sequence when it starts"
        share = f"takes {self.memory_share:.0%} of memory"
        if self.cache_share < 1.0:
            share = f"gives {self.cache_share:.0%} of what weights and a pass leave to the cache"
        return f"{self.title} {share} and {rule}".replace("%", " %", 1)

    def limits(self, device: Device, *, offline: bool = False) -> Limits:
        """What its scheduler takes on `device` when nobody says; `offline`: for a batch job instead of a server."""
        chunk_tokens = limit(self.chunk_tokens, device, offline=offline)
        return Limits(
            sequences=limit(self.max_sequences, device, offline=offline),
            chunk_tokens=chunk_tokens if chunk_tokens < _UNLIMITED else _WHOLE_BATCH_TOKENS,
        )

    def host_s(
        self, *, layers: float, kernels: Floats, expert_layers: Floats, sequences: Floats, reads: bool = False
    ) -> Floats:
        """Seconds of one pass that the device waits for the host. reads: it is one that reads prompts."""
        each = self.layer_s + (self.prompt_layer_s if reads else 0.0)
        fixed = self.step_s + each * minimum(layers, HOST_LAYERS) + self.expert_layer_s * expert_layers
        return fixed + self.kernel_s * kernels + self.sequence_s * minimum(sequences, HOST_SEQUENCES)

    def paced_s(self, operators_s: Floats, issued: Floats) -> Floats:
        """Seconds of the operators of a pass where the host issues `issued` kernels beside them (`issued_in`)."""
        return operators_s if self.issue_s == 0.0 else maximum(operators_s, self.issue_s * issued)

    def spread_s(self, op: Operator, device: Device) -> Floats:
        """Seconds that a decode step's attention takes longer where query heads do not share what they read of the cache."""
        if self.spread_passes == 0.0 or op.kind != "decode_attention":
            return 0.0
        heads, wider = op.shape["batch"] * op.shape["heads"], op.shape["heads"] / op.shape["kv_heads"]
        alone_s = op.kv_bytes / device.bandwidth_bytes_per_s
        spreads = (heads > limit(self.spread_above, device)) & (wider > 1.0)
        return where(spreads, self.spread_passes * wider * alone_s, 0.0)

    def scores_s(self, op: Operator, device: Device) -> Floats:
        """Seconds in which attention over whole inputs writes and reads its scores."""
        if self.score_bytes == 0.0 or op.kind != "prefill_attention":
            return 0.0
        scores = op.flops / (4.0 * op.shape["head_dim"])  # of two products, two operations an element each
        return self.score_bytes * scores / device.bandwidth_bytes_per_s

    def staged(self, stages: Floats) -> Engine:
        """Itself over the stages of a pipeline: every stage has a process of its own, whose host starts each step once more.

        An engine that splits layers runs them in one process.
        """
        if self.split == "layers" or (type(stages) is float and stages == 1.0):
            return self
        many: Any = {"step_s": self.step_s * stages, "sequence_s": self.sequence_s * stages}
        return replace(self, **many)

    def kept_s(self, light_s: Floats, floor_s: Floats) -> Floats:
        """What no constant of a step may take away: the floor of a discount; the bound where operators take more than alone."""
        if type(self.decode_excess) is float:
            return floor_s if self.decode_excess < 1.0 else light_s
        return where(self.decode_excess < 1.0, floor_s, light_s)

    def operator_s(
        self,
        kind: str,
        expected_s: Floats,
        light_s: Floats,
        *,
        decode: bool,
        flops: Floats = 0.0,
        moved_bytes: Floats = 0.0,
        unit_clocks: float = 1.0,
        head_dim: Floats = HEAD,
        compute_s: Floats = 0.0,
        memory_s: Floats = 0.0,
    ) -> Floats:
        """Seconds of one operator inside the engine, from what it takes alone; never below its bound.

        unit_clocks: units of the device times its clock, per second. head_dim: of attention. compute_s, memory_s: the two roofs of
        a convolution.
        """
        if kind == "collective":
            return maximum(self.collective_scale * expected_s, light_s)
        if kind in _MATRIX_KINDS:
            if self.unit_flops < _UNLIMITED:
                expected_s = maximum(expected_s, flops / (self.unit_flops * unit_clocks))
            if self.unit_bytes < _UNLIMITED:
                expected_s = maximum(expected_s, moved_bytes / (self.unit_bytes * unit_clocks))
        if kind == "prefill_attention" and self.machines in self.attention:
            pair = 1.0 + _EXPONENTIALS * (maximum(HEAD / head_dim, 1.0) - 1.0)
            expected_s = maximum(expected_s, flops * pair / (self.attention[self.machines] * unit_clocks))
        if decode:
            inside, scale = light_s + self.decode_excess * (expected_s - light_s), self.decode_scale
        else:
            inside, scale = expected_s, self.prefill_scale
        if kind == "conv" and self.packed:
            inside = self.conv_scale * arithmetic_s(expected_s, compute_s, memory_s)
            light_s = maximum(light_s, memory_s)
            return maximum(maximum(scale * inside, light_s), self.launch_s)
        if kind == "conv":
            scale *= self.conv_scale
        inside = inside if scale == 1.0 else maximum(scale * inside, light_s)
        return inside if self.launch_s == 0.0 else maximum(inside, self.launch_s)

    def rows_apart_s(self, op: Operator, device: Device) -> Floats:
        """Least seconds of a quantised product of few rows: the weights once for each, or what a whole tile multiplies."""
        if not self.row_tile or op.kind != "gemm" or get_format(op.weights).bits >= _WIDE_BITS:
            return 0.0
        rows = op.shape["m"]
        reads_s = where(rows > 1.0, rows * op.weight_bytes / device.bandwidth_bytes_per_s, 0.0)
        tile_s = op.flops / rows * self.row_tile / device.peak(get_format(op.activations).arithmetic)
        return minimum(reads_s, tile_s)


@by_identity
def with_memory_share(engine: Engine, share: float) -> Engine:
    """`engine`, told to use another share of a device's memory, or of what is left of it where that is what it is told."""
    if engine.cache_share < 1.0:
        return replace(engine, cache_share=share)
    return replace(engine, memory_share=share)


@by_identity
def _as_measured(engine: Engine, device: Device) -> Engine:
    """Raises: UnknownNameError for a constant that is none."""
    own = device.engines[engine.name]
    for name in own["constants"]:
        if name not in CONSTANTS:
            raise unknown("constant", name, CONSTANTS)
    residual = {**engine.residual, **{name: tuple(q) for name, q in own["residual"].items()}}
    changes: dict[str, Any] = dict(own["constants"])
    return replace(engine, vendors={}, known="", notes=(), fit=own["card"], residual=residual, **changes)


@by_identity
def _on_cpu(engine: Engine, device: Device) -> Engine:
    family = family_of(device)
    settled = engine.machines == family or engine.name in _ABSTRACT
    settings = None if settled else engine_settings((engine.name, engine.runs), device)
    if settings is None:
        return _on_family(engine, family)
    return replace(engine, **dict(engine.assumed) | dict(settings), machines=family, vendors={})


@by_identity
def _on_family(engine: Engine, family: str) -> Engine:
    if family == engine.machines or engine.name in _ABSTRACT:
        return engine
    settled: dict[str, Any] = {"machines": family, "vendors": {}}
    if family in engine.vendors:
        return replace(engine, **settled, **engine.vendors[family])
    kin = _constants_on(older_of(engine.name), family)
    relative = next((f for f in (engine.machines, *engine.vendors) if f and related(f, family)), None)
    known, spread = ("spec only", "prior") if relative is None and not kin else ("transferred", "relative")
    constants = dict(engine.assumed) if relative is None else dict(engine.vendors.get(relative, {}))
    constants = dict(engine.assumed) | kin if kin else constants
    residual = {name: tuple(q) for name, q in read_packaged("engine_unfitted.yaml")["residual"][spread].items()}
    whose = "assumed" if relative is None else f"those of {relative}"
    whose = f"those of {older_of(engine.name)} there" if kin else whose
    note = (
        f"{engine.title} has no published runs on {family} machines here: its constants are {whose}, its intervals wide"
    )
    settled |= {"residual": residual, "known": known, "notes": (note,), "fit": {}}
    return replace(engine, **constants | settled)


@by_identity
def _emulating(engine: Engine) -> Engine:
    return replace(engine, prefill_scale=engine.prefill_scale * engine.emulation, emulation=1.0)


def _constants_on(name: str, family: str) -> dict[str, float]:
    """The constants that were fitted of an engine on a kind of machine; none where nothing was."""
    if not name:
        return {}
    engine = get_engine(name)
    if family == engine.machines:
        return {key: getattr(engine, key) for key in CONSTANTS}
    return {key: value for key, value in engine.vendors.get(family, {}).items() if key in CONSTANTS}


def arithmetic_s(expected_s: Floats, compute_s: Floats, memory_s: Floats) -> Floats:
    """Seconds that the arithmetic of an operator takes of what it takes alone, from its two roofs."""
    return expected_s * minimum(compute_s / maximum(memory_s, _NO_TIME), 1.0)


def issued_in(op: Operator, seconds: Floats) -> Floats:
    """What an eager host issues for an operator: experts of the device one by one; nothing for what takes no time."""
    return where(seconds > 0.0, op.shape["experts"] / op.shape["ep"] if op.kind == "moe" else 1.0, 0.0)


def family_of(device: Device) -> str:
    """ "vendor kind": the machines that an engine has one set of constants on; of CPUs, whose cores' instructions they are."""
    vendor = device.vendor.lower()
    if device.kind == "cpu" and vendor != "apple":
        vendor = "x86" if vendor in _X86 else "arm"
    return f"{vendor} {device.kind}"


def related(family: str, other: str) -> bool:
    """Whether constants may be lent: the same kind of machine, or graphics of the same vendor.

    Neural processors of two vendors are programmed by compilers that have nothing in common: they are no kind.
    """
    (vendor, kind), (its_vendor, its_kind) = family.rsplit(" ", 1), other.rsplit(" ", 1)
    same = kind == its_kind and (kind != "npu" or vendor == its_vendor)
    return same or (vendor == its_vendor and kind in _GRAPHICS and its_kind in _GRAPHICS)


def limit(rules: Limit, device: Device, *, offline: bool = False) -> float:
    """What `max_sequences`, `chunk_tokens` or `spread_above` come to on `device`: a number, or the first rule that fits.

    offline: a batch job instead of a server. Infinite where the engine takes what it is given.
    """
    if isinstance(rules, int | float):
        return float(rules)
    for rule in rules:
        fits = (
            rule.get("named", "") in device.name
            and rule.get("kind", device.kind) == device.kind
            and rule.get("min_memory_bytes", 0.0) <= device.capacity_bytes
            and rule.get("offline", offline) == offline
        )
        if fits:
            return float(rule["value"])
    return float("inf")


@cache
def _table() -> tuple[dict[str, Engine], dict[str, str]]:
    raw, fits = read_packaged("engines.yaml"), read_packaged("engine_fits.yaml")["engines"]
    caches, edge = read_packaged("engine_memory.yaml"), read_packaged("engine_fits_edge.yaml")["families"]
    engines, names = {}, {}
    for name, given in raw["engines"].items():
        row, memory = dict(given), dict(caches["engines"].get(name, {}))
        defaults = {f.name: f.default for f in fields(Engine) if f.name in CONSTANTS}
        assumed = {key: row.get(key, usual) for key, usual in defaults.items()}
        runs = row.setdefault("runs", name)
        record = dict(fits.get(runs, {}))
        # Where its own server was measured, its own runs come first.
        record["vendors"] = {**edge.get(runs, {}), **record.get("vendors", {}), **edge.get(name, {})}
        first = record.get("fit", {}).get("machines", "")
        if runs != name and first in edge.get(name, {}):
            record |= edge[name][first] | {"fit": {**edge[name][first]["fit"], "machines": first}}
        row = {**row, **memory, **record, "sources": row["sources"], "assumed": assumed}
        row["machines"] = row.get("fit", {}).get("machines", "")
        for key in (name, row["title"], *row.pop("aliases", ())):
            names[compact(key)] = name
        row["sources"] = tuple(raw["sources"][s]["url"] for s in row["sources"] if "url" in raw["sources"][s])
        row["sources"] += tuple(caches["sources"][s]["url"] for s in memory.get("sources", ()))
        row |= {
            key: tuple(row[key])
            for key in ("max_sequences", "chunk_tokens", "mxfp4_widths", "spread_above", "tf32")
            if isinstance(row.get(key), list)
        }
        engines[name] = Engine(name=name, **row)
    return engines, names


def engine_names() -> list[str]:
    return sorted(_table()[0])


def get_engine(name: str, version: str = "") -> Engine:
    """The engine called `name`, in any case, of the generation that `version` belongs to (the newest without one).

    Raises: UnknownNameError with the nearest valid names.
    """
    engines, names = _table()
    if compact(name) not in names:
        raise unknown("engine", name, engines)
    found = names[compact(name)]
    for before, older in read_packaged("engines.yaml").get("generations", {}).get(found, {}).items():
        if earlier(version, str(before)):
            return engines[older]
    return engines[found]


@cache
def older_of(name: str) -> str:
    """The generation before an engine, as a profile of its own; "" for one that has none."""
    return str(next(iter(read_packaged("engines.yaml")["generations"].get(name, {}).values()), ""))


def default_engine(device: Device, model: ModelSpec | None = None) -> Engine:
    """The engine usually run on a machine of this kind, or the one whose form the files of `model` have.

    On a machine that was measured it is the one that it was measured with.
    """
    if device.efficiency:
        return get_engine(OWN)
    facts = read_packaged("engines.yaml")
    usual = get_engine(facts["default"][device.kind])
    own = facts["containers"].get(getattr(model, "metadata", {}).get("container"))
    return get_engine(own) if own is not None and usual.step_s else usual
