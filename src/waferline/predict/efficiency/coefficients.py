"""The fitted constants of each machine and operator, read from `catalog/efficiency` when first asked for.

Three tiers. *calibrated*: this machine's operators were measured. *transferred*: another machine of the same vendor and kind
was, and the constants were fitted over all of those together. *spec only*: named defaults of the machine's kind, with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from waferline.catalog.yaml_file import packaged_names, read_packaged
from waferline.errors import FileFormatError, unknown
from waferline.predict.efficiency.intervals import Regime

Tier = Literal["calibrated", "transferred", "spec only"]

# Formats whose constants may stand in for a missing one, nearest first. The same arithmetic and kernels: fp16 for bf16.
# Anything else borrows a neighbour's efficiency and is no longer called calibrated.
SAME_KERNELS: Mapping[str, str] = {
    "fp16": "bf16",
    "bfloat16": "bf16",
    "float16": "bf16",
    "nvfp4": "fp4",
    "mxfp4": "fp4",
    "w4a16_mxfp4": "w4a16",
}
NEIGHBOURS: Mapping[str, tuple[str, ...]] = {
    "bf16_kv8": ("bf16",),
    "fp8": ("fp8_block", "int8", "bf16_kv8", "bf16"),
    "fp8_block": ("fp8", "int8", "bf16"),
    "int8": ("fp8", "fp8_block", "bf16"),
    "fp6": ("fp8", "fp4", "bf16"),
    "fp4": ("fp8", "bf16"),
    "int4": ("fp4", "int8", "bf16"),
    "w4a8": ("fp8", "fp8_block", "fp4", "bf16"),
    "w4a16": ("w8a16", "bf16"),
    "w8a16": ("w4a16", "bf16"),
    "tf32": ("bf16",),
    "fp32": ("bf16",),
    "fp64": ("bf16",),
    "xgmi": ("nvlink",),
    "ici": ("nvlink",),
    "fabric": ("nvlink",),
}


# How much wider residuals become on another machine of the same architecture. Between H100 and H200, over every operator, the
# other's constants miss 1.07 times as much as a machine's own, and 1.25 times its quantiles cover 93 %; other pairs of
# relatives differ more (power limit, memory), hence 1.5. Between A100 and RTX PRO 6000, which share kernels alone, 2.5 times
# the lender's quantiles cover 89 % (1.5 times 76).
SAME_SILICON_WIDENING = 1.5
SAME_KERNELS_WIDENING = 2.5
# What was measured on the matrices of one model (four groups) is not lent: RTX 4090's 72 rows of GEMM miss other machines by
# 15-26 %, all measured machines together by 6-14 %.
LEAST_GROUPS = 5
# Of two groups neither can be left out to say how far the other carries: published networks on an RTX 3090 lie 53 % off with its
# own constants of two (reached by half of its bandwidth), 19 % with those of all machines of the vendor.
LEAST_OWN_GROUPS = 3
OTHER_FORMAT_WIDENING = (
    1.5  # a neighbouring format's kernels: fp8 records of two engines lie 17-38 % apart on one machine
)


@dataclass(frozen=True, slots=True)
class Record:
    """Constants of one operator on one machine, with the fit's own card: rows, split and error on rows not used for fitting.

    c: the constants, in SI. residual: quantiles of log(measured / predicted) on held-out groups, by size of the prediction.
    median_error, p90_error: shares, out of fold; nan for named defaults that no measurement backs.
    """

    machine: str
    op_kind: str
    compute_format: str
    engine: str
    c: Mapping[str, float]
    residual: tuple[Regime, ...]
    rows: int
    groups: int
    split: str
    median_error: float
    p90_error: float
    date: str
    source: str


def coefficients(
    device_slug: str, op_kind: str, compute_format: str, arch: str, vendor: str, kind: str, *, engine: str | None = None
) -> tuple[Record, Tier]:
    """The constants to use for one operator kind, and how well they are known.

    compute_format: "bf16", "fp8", "fp8_block", "fp4", "int8", "w4a16", "w8a16", "w4a8"; "bf16_kv8" for bf16 attention over an
    8-bit KV cache; for collectives the link kind ("nvlink", "pcie", ...). engine: the kernel family ("vllm", "trtllm",
    "nccl", ...); by default, and where that engine was not measured, the faster family. A machine that was not measured
    borrows from measured silicon its name begins like, else attention and experts from a machine that runs the same kernels,
    else from its vendor's machines together, else from its kind.

    Raises: UnknownNameError for an operator kind that does not exist.
    """
    if op_kind not in op_kinds():
        raise unknown("operator kind", op_kind, op_kinds(), where="catalog/efficiency/spec.yaml: neutral")
    return _resolve(
        device_slug.lower(),
        op_kind,
        compute_format.lower(),
        arch.lower(),
        vendor.lower(),
        kind.lower(),
        engine.lower() if engine else None,
    )


@cache
def op_kinds() -> tuple[str, ...]:
    """The names under which operators' constants are kept: those that have neutral ones."""
    spec = _document("spec")
    return tuple(spec["neutral"]) if spec else ()


def measured_name(name: str) -> str:
    """The catalogue's name of the machine whose tables go by `name`; `name` itself where nothing of it was measured."""
    found = _machines().get(name.lower(), {}).get("names", ())
    hardware = packaged_names("hardware")
    return next((other for other in found if other in hardware), name)


def measured_as(name: str) -> str | None:
    """The measured machine that goes by `name`; None where its operators were not measured."""
    return _names().get(name.lower())


def sheet_of(machine: str) -> Mapping[str, Any] | None:
    """The sheet that the constants of a measured machine are shares of; None for sets of defaults."""
    found: Mapping[str, Any] = _machines().get(machine, {})
    return found.get("facts")


@cache
def _resolve(
    slug: str, op_kind: str, fmt: str, arch: str, vendor: str, kind: str, engine: str | None
) -> tuple[Record, Tier]:
    fmt = SAME_KERNELS.get(fmt, fmt)
    machine, family = _names().get(slug), f"transfer-{vendor}-{kind}"
    own = None if machine is None else _find(machine, op_kind, (fmt,), engine)
    if own is not None and own.groups >= LEAST_OWN_GROUPS:
        return own, "calibrated"
    near = (fmt, *NEIGHBOURS.get(fmt, ()))
    # This format on a relative or the vendor's machines, then of its own in few groups, before a neighbouring format.
    for formats in ((fmt,), near):
        for source in (_relative(slug), _same_kernels(op_kind, arch, vendor, kind), family, machine):
            found = None if source is None else _find(source, op_kind, formats, engine)
            if source == machine == _relative(slug) and formats == (fmt,):
                continue  # its own were too few
            if found is not None and (source == machine or found.groups >= LEAST_GROUPS or found.machine == family):
                return _widened(found, family, fmt, arch), "transferred"
    for kinds in (slug, f"{vendor}-{kind}", kind, "any"):
        if (spec := _spec_record(kinds, op_kind, fmt)) is not None:
            return spec, "spec only"
    raise FileFormatError(f"no constants for {op_kind}", where="catalog/efficiency/spec.yaml")


def _relative(slug: str) -> str | None:
    """The measured machine with the same silicon, by the longest matching beginning of the name."""
    beginnings = [
        (len(b), m) for m, entry in _machines().items() for b in entry.get("relatives", ()) if slug.startswith(b)
    ]
    return max(beginnings)[1] if beginnings else None


def _same_kernels(op_kind: str, arch: str, vendor: str, kind: str) -> str | None:
    """The measured machine that lends its kernels of `op_kind` to a whole architecture; None where no machine does."""
    for machine, entry in _machines().items():
        lent, facts = entry.get("kernels", {}), entry["facts"]
        if (vendor, kind) == (facts["vendor"], facts["kind"]) and arch in lent.get("architectures", ()):
            return machine if op_kind in lent["operators"] else None
    return None


def _widened(record: Record, family: str, fmt: str, arch: str) -> Record:
    """A borrowed record keeps its constants; a fit that left machines out already has their residuals, others are widened."""
    factor = 1.0
    if record.machine != family:
        near = arch.startswith(_machines()[record.machine]["facts"]["arch"])
        factor = SAME_SILICON_WIDENING if near else SAME_KERNELS_WIDENING
    if record.compute_format != fmt:
        factor *= OTHER_FORMAT_WIDENING
    return record if factor == 1.0 else replace(record, residual=tuple(r.wider(factor) for r in record.residual))


def _find(name: str, op_kind: str, formats: tuple[str, ...], engine: str | None) -> Record | None:
    """The first of `formats` that the file has; of its engines the one asked for, else what a special kernel's engine runs mostly,
    else the faster of the main kernels.

    Engines come fastest first; an underscore marks a special kernel of an engine ("trtllm_latency", "vllm_eager").
    """
    found = _records(name, op_kind)
    if found is None:
        return None
    head, table = found
    for fmt in formats:
        engines = table.get(fmt)
        if engines:
            asked = (engine, engine.partition("_")[0]) if engine else ()
            chosen = next((e for e in asked if e in engines), min(engines, key=lambda e: "_" in e))
            return _record(head, name, op_kind, fmt, chosen, engines[chosen])
    return None


def _record(
    head: Mapping[str, Any], name: str, op_kind: str, fmt: str, engine: str, entry: Mapping[str, Any]
) -> Record:
    return Record(
        machine=name,
        op_kind=op_kind,
        compute_format=fmt,
        engine=engine,
        c={key: float(value) for key, value in entry["c"].items()},
        residual=tuple(Regime(*map(float, row)) for row in entry["residual"]),
        rows=int(entry["rows"]),
        groups=int(entry["groups"]),
        split=head["split"],
        median_error=float(entry["median"]),
        p90_error=float(entry["p90"]),
        date=str(head["date"]),
        source=head["source"],
    )


def _spec_record(family: str, op_kind: str, fmt: str) -> Record | None:
    """Defaults of a kind of machine: the neutral constants of the operator, then the family's, then the family's for it."""
    spec = _document("spec")
    entry = spec["families"].get(family) if spec else None
    if spec is None or entry is None:
        return None
    c = dict(spec["neutral"][op_kind]) | dict(entry.get("c", {})) | dict(entry.get(op_kind, {}))
    return Record(
        machine=f"spec-{family}",
        op_kind=op_kind,
        compute_format=fmt,
        engine="any",
        c={key: float(value) for key, value in c.items()},
        residual=(Regime(float("inf"), *map(float, entry["residual"])),),
        rows=0,
        groups=0,
        split="none: named defaults",
        median_error=float("nan"),
        p90_error=float("nan"),
        date=str(spec["date"]),
        source=entry["reason"],
    )


@cache
def _names() -> Mapping[str, str]:
    return {name: slug for slug, entry in _machines().items() for name in entry["names"]}


@cache
def _machines() -> Mapping[str, Any]:
    return _document("machines") or {}


def _records(name: str, op_kind: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """(date, source, split) and the records by format and engine of one operator; None when the machine has no file."""
    document = _document(name)
    return None if document is None else (document, document["records"].get(op_kind, {}))


def _document(name: str) -> Mapping[str, Any] | None:
    """One whole file of `catalog/efficiency`; None when there is no such file."""
    return read_packaged(f"efficiency/{name}.yaml") if name in packaged_names("efficiency") else None
