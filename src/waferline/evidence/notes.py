"""What a row says only in words: lengths, batches and parallel degrees that its notes state, read by pattern."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from waferline.evidence.rows import Row

_NUMBER = r"([\d]+(?:\.\d+)?)"
_ABOUT = re.compile(rf"(?:p50|mean)?\s*~?\s*{_NUMBER}(?:\s*\((?:derived|\+-\d+%)\))?\s*$")
_MICRO = re.compile(rf"\b(?:micro|MBS|local|mbs)\s+{_NUMBER}")
_CONTEXT_PARALLEL = re.compile(r"\bCP(\d+)")
_VIRTUAL = re.compile(r"\bVP(\d+)")
_SLICES = re.compile(rf"{_NUMBER} slice\(s\)")
_AT_ONCE = re.compile(rf"{_NUMBER} requests submitted at once")
_THREADS = re.compile(r"\bthreads?[ =](?P<after>\d+)|\b(?P<before>\d+) threads?\b")
_POOLS = re.compile(r"prefill workers/tp/dp/ep (\d+)/(\d+)/(\d+)/(\d+); decode (\d+)/(\d+)/(\d+)/(\d+)")
_RATE = re.compile(rf"(?:open loop(?: at)?|request rate) {_NUMBER} ?(?:req|requests?)?/s")
_NAMED = re.compile(r"format (\w+)")
# How AIConfigurator's tables record the ranks of attention and of experts where they leave the devices open.
_RANKS = (
    re.compile(
        r"attention data parallel (?P<dp>\d+) with tp (?P<tp>\d+), moe_tp (?P<moe_tp>\d+), moe_ep (?P<moe_ep>\d+)"
    ),
    re.compile(r"recorded tp (?P<tp>\d+) is .*\(dp (?P<dp>\d+), moe_tp (?P<moe_tp>\d+), moe_ep (?P<moe_ep>\d+)\)"),
)
_PER_DEVICE = re.compile(rf"{_NUMBER} (tokens )?per (?:GPU|device)")
_PER_REPLICA = re.compile(rf"{_NUMBER} seqs per DP")
_PIXELS = re.compile(r"(?:image|input|at|crop)?\s*(\d{2,4})\s*[x×]\s*(\d{2,4})")
_COUNTS = {
    "steps": re.compile(r"(\d+)\s*(?:denoising |inference |sampling )?steps"),
    "frames": re.compile(r"(\d+) frames"),
    "ring": re.compile(r"\bring (\d+)"),
    "instances": re.compile(r"x (\d+) instances"),
}
_TASK = re.compile(r"\btask ([\w-]+)")
ASSUMED_PROMPT = 500  # tokens, where neither a row nor its workload says more
# Tokens of the prompts of workloads that state none, pictures and films included: chosen by the slowest steps of a ninth of
# ML.ENERGY's runs.
PROMPTS = {"sourcegraph-fim": 1000, "image-chat": 1200, "video-chat": 2000}
IMAGES = {"image-chat": 1}  # a prompt, as that benchmark's configuration says: its text is a usual prompt


@dataclass(frozen=True, slots=True)
class About:
    """A number that the source gives only approximately, or in words."""

    value: float
    said: str


def _field(row: Row, name: str) -> str:
    """The text of `name: ...` in the notes, up to the next semicolon."""
    found = re.search(rf"(?:^|; ){name}: ([^;]*)", row.notes)
    return found.group(1).strip() if found else ""


def _first(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.search(text)
    return float(found.group(1)) if found else None


def image_sides(text: str) -> tuple[int, ...]:
    """Pixels of the two sides of an image; empty where none is stated."""
    found = _PIXELS.search(text)
    return tuple(int(g) for g in found.groups()) if found else ()


def image_side(text: str) -> int:
    """Pixels of a side of the square as large as an image; 0 where no size is stated."""
    sides = image_sides(text)
    return round(math.sqrt(math.prod(sides))) if len(sides) == 2 else 0


def image_size(text: str) -> str:
    """WIDTHxHEIGHT of an image that a diffusion model makes; empty where none is stated."""
    sides = image_sides(text)
    return f"{sides[0]}x{sides[1]}" if len(sides) == 2 and min(sides) >= 128 else ""


def count(what: str, text: str) -> int | None:
    """How many steps, frames, devices of a ring or instances the text states."""
    found = _first(_COUNTS[what], text)
    return None if found is None else int(found)


def input_tokens(row: Row) -> About | None:
    """Prompt length that the notes give as a median or mean."""
    return _about("prompt of about", _field(row, "input_len"))


def output_tokens(row: Row) -> About | None:
    """Generated length that the notes give as a median or mean."""
    return _about("about", _field(row, "output_len"))


def _about(words: str, text: str) -> About | None:
    found = _ABOUT.match(text)
    return About(float(found.group(1)), f"{words} {found.group(1)} tokens ({text})") if found else None


def task(notes: str) -> str:
    """The named workload that ran."""
    found = _TASK.search(notes)
    return found.group(1) if found else ""


def slices(row: Row) -> float:
    """Groups of devices that only a data centre network joins."""
    return _first(_SLICES, row.notes) or 1.0


def requests_at_once(row: Row) -> float | None:
    """How many requests were queued together at the start."""
    return _first(_AT_ONCE, row.notes)


def batch(row: Row) -> float | None:
    """Sequences of all devices where the notes count them, or their tokens, by device."""
    found = _PER_DEVICE.match(_field(row, "batch"))
    if found is None:
        return None
    tokens = (row.input_tokens or 1.0) if found.group(2) else 1.0
    return float(found.group(1)) * (row.devices or 1.0) / tokens


def attention_replicas(row: Row) -> bool:
    """Whether each device attends to sequences of its own (attention-data parallelism)."""
    said = _field(row, "parallelism")
    return "DP attention" in said or "data parallel" in said


def with_devices(row: Row) -> tuple[Row, str]:
    """The row with the devices that its recorded ranks mean, and how they were counted.

    An engine maps attention and experts to the same devices, so that tp × dp = moe_tp × moe_ep is their number (TensorRT-LLM,
    docs/source/advanced/expert-parallelism.md; `Mapping`). Where one side is n × n, the table counted each device twice: it is n.
    Of 101 rows of the same model, engine, version, batch and lengths that state n devices and so many ranks of experts, nine in
    ten have the same time to 2 %.
    """
    found = next((f for f in (pattern.search(row.notes) for pattern in _RANKS) if f), None)
    if row.devices is not None or found is None:
        return row, ""
    tp, dp, moe_tp, moe_ep = (float(found[name]) for name in ("tp", "dp", "moe_tp", "moe_ep"))
    if tp * dp != moe_tp * moe_ep:
        return row, ""
    twice = tp == dp > 1 or moe_tp == moe_ep > 1
    n = (tp * dp) ** 0.5 if twice else tp * dp
    shared = tp > 1  # heads are shared; without, every rank attends to sequences of its own
    ranks = {"tp": n, "dp": 1.0} if shared and twice else {"tp": 1.0, "dp": n} if twice else {"tp": tp, "dp": dp}
    said = f"devices not stated: tp {tp:g} × dp {dp:g} = moe_tp {moe_tp:g} × moe_ep {moe_ep:g}" + (
        f" counts each of {n:g} twice" if twice else f" is {n:g}"
    )
    return replace(row, devices=n, pp=row.pp or 1.0, ep=n if twice else moe_ep, **ranks), said


def micro_batch(row: Row) -> float | None:
    """Sequences in one micro-batch of one replica."""
    return _first(_MICRO, row.notes)


def sequences_per_replica(row: Row) -> float | None:
    """Sequences that one data-parallel replica trains in a step."""
    return _first(_PER_REPLICA, row.notes)


def context_parallel(row: Row) -> float:
    """Devices that share one sequence (context parallelism), 1 where none is named."""
    return _first(_CONTEXT_PARALLEL, row.notes) or 1.0


def virtual_stages(row: Row) -> float:
    """Model chunks of one pipeline stage (interleaved schedule)."""
    return _first(_VIRTUAL, row.notes) or 1.0


def threads(row: Row) -> int:
    """Threads of a CPU that worked; 0 where the row does not say."""
    found = _THREADS.search(f"{row.cores_or_grid} {row.notes}")
    return int(found["after"] or found["before"]) if found else 0


def container(row: Row) -> str:
    """The kind of file that was run, gguf or mlx, where the notes name it."""
    found = _NAMED.search(row.notes)
    return found.group(1).lower() if found else ""


def rate_per_s(row: Row) -> float | None:
    """Requests a second of an open load, which come whatever the server does."""
    return _first(_RATE, row.notes)


def pools(row: Row) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """(workers, tp, dp, ep) of those that read prompts and of those that generate; 0 workers are not stated."""
    found = _POOLS.search(row.notes)
    if found is None:
        return None
    numbers = tuple(int(n) for n in found.groups())
    return numbers[:4], numbers[4:]


def disaggregated(row: Row) -> bool:
    return "mode=disagg" in row.notes
