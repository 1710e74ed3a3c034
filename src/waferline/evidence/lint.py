"""Published rows that cannot all be true, found by comparing them with each other: no prediction is asked.

A rule looks at rows that differ in one thing alone and marks those that move against it by more than measurements scatter.
The limits were set on what repeats of one laboratory scatter (half of them agree within 5 %, nine in ten within 1.5 times),
not on predictions.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from statistics import median
from typing import Any

from waferline.evidence.benchmarks import metric, training
from waferline.evidence.metrics import TO_TRAIN, is_rate
from waferline.evidence.names import model_spec
from waferline.evidence.request import Refusal
from waferline.evidence.rows import Row

_SETTING = (
    "source", "hardware", "devices", "model", "phase", "metric", "weight_format", "activation_format", "kv_format",
    "batch", "input_tokens", "output_tokens", "tp", "pp", "ep", "dp", "engine", "engine_version",
    "cores_or_grid",
)  # fmt: skip
# Of notes: the day, how long it was measured, and figures that repeat the value.
_NOT_SETTING = re.compile(r"measured=[-\d]+;? ?|\d+\.\d+|\d+ (?:prompts|requests)\b")
_APART = 1.5  # repeats of one setting
_WARM_UP = 2.0  # a time to first token over one under more load
_JUMPS = 4.0  # a time to first token over one under half the load
_FALLS = 1.5  # a rate at a smaller batch over one at a larger
_RISES = 1.3  # a rate at a longer context over one at a shorter
_LEVEL = 1.3  # one version of an engine over the others, on the settings that both ran
_SHARED = 3  # settings that two versions must share before a level is said of either
_PART = 2.0  # samples that a run to target quality needs over those that its rate trained
_DIGITS = 4  # that two values must share to be one value under two labels


@dataclass(frozen=True, slots=True)
class Mark:
    """A row with the rule it breaks, and what says so."""

    id: str
    rule: str
    why: str


Pair = tuple[Row, str]


def _key(row: Row, *left_out: str, table: bool = True) -> tuple[Any, ...]:
    """The setting of a row, without what may differ. table: rows of another table of the same source are other settings."""
    where = _table(row.locator) if table else ""
    return _fields(left_out)(row), _setting(row.notes), where


@cache
def _fields(left_out: tuple[str, ...]) -> Callable[[Row], tuple[Any, ...]]:
    return attrgetter(*(name for name in _SETTING if name not in left_out))


@cache
def _setting(notes: str) -> str:
    """What notes say of the setting."""
    return _NOT_SETTING.sub("", notes)


@cache
def _table(locator: str) -> str:
    """The place of a table: numbers are those of its rows."""
    return re.sub(r"[\d.]+", "#", locator)


def _groups(rows: Iterable[Row], *left_out: str, table: bool = True) -> Iterator[list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(_key(row, *left_out, table=table), []).append(row)
    return (group for group in found.values() if len(group) > 1)


def _whole(row: Row) -> bool:
    """Whether batch and lengths are stated: else two rows may be of different settings."""
    return (
        bool(row.batch) and row.input_tokens is not None and (row.output_tokens is not None or row.phase == "prefill")
    )


def _repeats(rows: Sequence[Row]) -> Iterator[Pair]:
    """One setting, measured more than once, far apart."""
    for group in _groups(filter(_whole, rows)):
        values = [r.value for r in group]
        if max(values) > _APART * min(values):
            middle = median(values)
            for row in group:
                if max(row.value, middle) > _APART**0.5 * min(row.value, middle):
                    yield row, f"the same setting was measured at {min(values):.4g} and {max(values):.4g}"


def _warm_up(rows: Sequence[Row]) -> Iterator[Pair]:
    """A time to first token far above one under more load, or of a longer prompt: the first request paid for start-up."""
    for what, more in (("batch", "more load"), ("input_tokens", "a longer prompt")):
        for group in _groups((r for r in rows if r.metric == "ttft_s" and getattr(r, what)), what):
            for row in group:
                least = min((r.value for r in group if getattr(r, what) > getattr(row, what)), default=row.value)
                if row.value > _WARM_UP * least:
                    yield row, f"{row.value:.4g} s where {more} took {least:.4g} s"


def _start_up(rows: Sequence[Row]) -> Iterator[Pair]:
    """Times to first token that jump as clients double and then hardly grow: something started up. Waiting grows with clients."""
    for group in _groups((r for r in rows if r.metric == "ttft_s" and r.batch and r.tp), "batch"):
        group.sort(key=lambda r: r.batch or 0.0)
        for before, row in itertools.pairwise(group[:-1]):
            more, last = (row.batch or 0.0) / (before.batch or 1.0), group[-1]
            further = (last.batch or 0.0) / (row.batch or 1.0)
            if row.value > _JUMPS * before.value and more <= 2.0 and last.value / row.value < further**0.5:
                what = f"{more:g} times the clients wait {row.value / before.value:.2g} times as long, {further:g} times those"
                yield from ((late, f"{what} {last.value / row.value:.2g} times") for late in group[group.index(row) :])
                break


def _falls(rows: Sequence[Row]) -> Iterator[Pair]:
    """A rate that falls as the batch grows: swapping, or another setting that is not stated."""
    of_inputs = (r for r in rows if is_rate(r.metric) and r.batch and "iterations" not in r.notes.lower())
    for group in _groups(of_inputs, "batch"):
        for row in group:
            best = max((r.value for r in group if (r.batch or 0) < (row.batch or 0)), default=row.value)
            if best > _FALLS * row.value:
                yield row, f"{row.value:.4g} where a smaller batch reached {best:.4g}"


def _rises(rows: Sequence[Row]) -> Iterator[Pair]:
    """A rate of generated tokens that rises with the context."""
    generated = (
        r for r in rows if r.metric == "output_tokens_per_s" and r.phase != "train" and r.input_tokens is not None
    )
    for group in _groups(generated, "input_tokens"):
        for row in group:
            least = min((r.value for r in group if (r.input_tokens or 0) < (row.input_tokens or 0)), default=row.value)
            if row.value > _RISES * least:
                yield row, f"{row.value:.4g} where a shorter context reached {least:.4g}"


def _levels(rows: Sequence[Row]) -> Iterator[Pair]:
    """A version of an engine at another level than the others wherever both ran: something of the setting is not recorded."""
    by_setting: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for row in filter(_whole, rows):
        if row.metric in ("tpot_s", "output_tokens_per_s"):
            key = (_architecture(row.model), *_key(row, "engine_version", "model", table=False))
            by_setting.setdefault(key, {}).setdefault(row.engine_version, []).append(row)
    ratios: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for versions in by_setting.values():
        for name, mine in versions.items():
            against = ratios.setdefault(_campaign(mine[0]), {})
            for other, theirs in versions.items():
                if name and other not in ("", name):
                    against.setdefault(other, []).append(
                        median(r.value for r in mine) / median(r.value for r in theirs)
                    )
    odd = {}
    for campaign, against in ratios.items():
        levels = [median(found) for found in against.values() if len(found) >= _SHARED]
        if levels and not any(1 / _LEVEL < level < _LEVEL for level in levels):  # at home with none of the others
            odd[campaign] = median(levels)
    for row in rows:
        if row.metric in ("tpot_s", "output_tokens_per_s") and _campaign(row) in odd:
            yield row, f"{row.engine_version} is at {odd[_campaign(row)]:.2f} times the other versions where both ran"


@cache
def _architecture(model: str) -> str:
    """What two names of one structure share: the model as the catalogue knows it, without its names."""
    spec = model_spec(model)
    return model if isinstance(spec, Refusal) else repr(replace(spec, name="", title="", sources=()))


def _campaign(row: Row) -> tuple[Any, ...]:
    return row.source, row.engine, row.engine_version, row.model, row.hardware, row.metric, row.weight_format


def _contradicted(rows: Sequence[Row]) -> Iterator[Pair]:
    """A source whose first tokens take longer than another's under more load, wherever both ran the same model, engine and machine.

    A shorter prompt and fewer requests cannot take longer; where most of a source's comparable rows do, its server ran otherwise
    than its rows say, and what cannot be compared is doubted with them.
    """
    both: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.metric == "ttft_s" and row.batch and row.input_tokens is not None:
            both.setdefault((row.hardware, row.devices, row.model, row.engine, row.weight_format), []).append(row)
    times: dict[str, list[float]] = {}
    for group in both.values():
        for row in group if len({r.source for r in group}) > 1 else ():
            others = (r.value for r in group if r.source != row.source and _more(r, row))
            if (least := min(others, default=0.0)) > 0.0:
                times.setdefault(row.source, []).append(row.value / least)
    odd = {s: median(t) for s, t in times.items() if len(t) >= _SHARED and median(t) > _WARM_UP}
    for row in rows:
        if row.source in odd:
            yield (
                row,
                f"first tokens of this source take {odd[row.source]:.1f} times what others measured under more load",
            )


def _more(row: Row, than: Row) -> bool:
    """Whether a row is of at least as many requests and as long a prompt as another."""
    return (row.batch or 0) >= (than.batch or 0) and (row.input_tokens or 0) >= (than.input_tokens or 0)


def _labels(rows: Sequence[Row]) -> Iterator[Pair]:
    """One value under two names of a model: it was measured once."""
    exact = (r for r in rows if len(f"{r.value:.12g}".replace(".", "").strip("0")) >= _DIGITS)
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in exact:
        found.setdefault((_key(row, "model", table=False), row.value), []).append(row)
    for group in found.values():
        for row in group:
            if row.model != group[0].model:
                yield row, f"the same value stands under {group[0].model}"


def _of_a_part(rows: Sequence[Row]) -> Iterator[Pair]:
    """A rate that did not train the samples of its own run: some logs count the inputs of one device."""
    runs: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        if row.metric in (TO_TRAIN, "samples_per_s") and row.batch:
            runs.setdefault((row.source, row.locator, row.model), {})[row.metric] = row
    for run in (r for r in runs.values() if len(r) == 2):
        rate, whole = run["samples_per_s"], run[TO_TRAIN]
        needs = training(whole).to_converge(whole.batch or 1.0)
        if needs is not None and metric(rate) == rate.metric and rate.value * whole.value < needs / _PART:
            yield (
                rate,
                f"{rate.value:.4g} over {whole.value:.4g} s are {rate.value * whole.value / needs:.0%} of a run's samples",
            )


def _outpaced(rows: Sequence[Row]) -> Iterator[Pair]:
    """A latency of one batch that alone would give more inputs a second than the same run's rate, which counts all batches."""
    runs: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        if row.metric in ("latency_s", "samples_per_s") and row.batch and row.locator:
            key = (row.source, row.url, row.locator, row.hardware, row.devices, row.model, row.batch, row.weight_format)
            runs.setdefault(key, {})[row.metric] = row
    for run in (r for r in runs.values() if len(r) == 2):
        rate, latency = run["samples_per_s"], run["latency_s"]
        alone = (latency.batch or 1.0) / latency.value
        if alone > _APART * rate.value:
            for row in (rate, latency):
                yield row, f"{rate.value:.4g} a second, where its latency alone gives {alone:.4g}"


RULES: Mapping[str, Callable[[Sequence[Row]], Iterator[Pair]]] = {
    "repeats-apart": _repeats,
    "warm-up": _warm_up,
    "start-up": _start_up,
    "falls-with-batch": _falls,
    "rises-with-length": _rises,
    "version-level": _levels,
    "contradicted-source": _contradicted,
    "two-labels": _labels,
    "part-of-a-run": _of_a_part,
    "outpaced-rate": _outpaced,
}


def lint(rows: Sequence[Row]) -> list[Mark]:
    """Every measured row that a rule of `RULES` finds, by rule; a row may break several."""
    measured = [r for r in rows if r.kind == "measured" and not r.suspect and r.value > 0]
    found = [Mark(row.id, name, why) for name, rule in RULES.items() for row, why in rule(measured)]
    return list(dict.fromkeys(found))


def with_marks(rows: Sequence[Row]) -> list[Row]:
    """The rows, those that a rule finds suspect: they are predicted as all others, and neither scored nor fitted."""
    marks: dict[str, str] = {}
    for mark in lint(rows):
        marks.setdefault(mark.id, f"{mark.rule}: {mark.why}")
    return [replace(row, suspect=marks[row.id]) if row.id in marks else row for row in rows]
