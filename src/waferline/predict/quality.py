"""What compression costs in quality, from published tables: the median and range of the rows that match.

Nothing is fitted: an estimate is what others measured at the nearest bits, sparsity or size, on models of the nearest
size. Perplexity and accuracy are never mixed. Rows: `catalog/quality/*.yaml`, each table with its source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any, Literal

import numpy as np

from waferline.catalog import ROOT
from waferline.catalog.yaml_file import read_packaged

from ..errors import FileFormatError, InvalidInputError, UnsupportedError, unknown

Metric = Literal["perplexity", "accuracy"]
FILES = ("distillation", "float", "integer", "llama-cpp", "pruning")
MAX_BITS_AWAY = 0.75  # beyond this a row says little about the bits asked for: 3 and 4 bits behave differently
MAX_SPARSITY_AWAY = 0.1
MAX_KEPT_AWAY = 0.15
NEAREST_SIZE_FACTOR = 4.0  # rows within this factor of the model's size are preferred to all others


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One published figure. `loss` is relative: perplexity over the baseline's minus 1, or the share of accuracy lost;
    positive is worse."""

    method: str
    variant: str
    bits: float | None
    sparsity: float | None
    kept: float | None
    model: str
    params: float | None
    metric: Metric
    dataset: str
    baseline: float
    value: float
    source: str
    table: str

    @property
    def loss(self) -> float:
        change = self.value / self.baseline - 1
        return change if self.metric == "perplexity" else -change


@dataclass(frozen=True, slots=True)
class QualityEstimate:
    """The relative loss to expect: `median`, and the `low` and `high` of the published rows behind it.

    `metric` says of what; `matched` is the bits, sparsity or kept share of those rows; `note` says what had to be
    widened.
    """

    metric: Metric
    median: float
    low: float
    high: float
    matched: float
    rows: tuple[QualityRow, ...]
    note: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the rows come from, each address once."""
        return tuple(dict.fromkeys(row.source for row in self.rows))


@cache
def quality_rows() -> tuple[QualityRow, ...]:
    """All published rows."""
    return tuple(row for name in FILES for row in _read(f"quality/{name}.yaml"))


def _read(name: str) -> list[QualityRow]:
    raw = read_packaged(name)
    rows = []
    for table in raw["tables"]:
        shared = {k: v for k, v in table.items() if k not in ("source", "columns", "rows")}
        source = raw["sources"][table["source"]]["url"]
        for values in table["rows"]:
            fields: dict[str, Any] = dict.fromkeys(("bits", "sparsity", "kept"))
            fields |= shared | dict(zip(table["columns"], values, strict=True)) | {"source": source}
            try:
                row = QualityRow(**fields)
            except TypeError as error:
                raise FileFormatError(str(error), where=str(ROOT / name)) from None
            if not (row.baseline > 0 and row.value > 0):
                raise FileFormatError(f"{row.method} {row.variant}: figures are positive", where=str(ROOT / name))
            rows.append(row)
    return rows


def accuracy_delta(
    method: str,
    *,
    bits: float | None = None,
    sparsity: float | None = None,
    kept: float | None = None,
    model_params: float | None = None,
    metric: Metric | None = None,
) -> QualityEstimate:
    """The relative loss of quality that was published for `method` near the asked bits, sparsity or kept share.

    `method` is a method (`gptq`, `awq`, `k-quant`, `wanda`, `distillation`, ...) or a recipe (`q4_k_m`, `2:4`). Rows at
    the nearest bits (sparsity, kept) count; with `model_params`, those of models within a factor of four where there
    are any. `metric` defaults to perplexity where there are such rows.

    Raises: UnknownNameError for a method nobody published here; UnsupportedError when no row is near what is asked.
    """
    rows = _of_method(method)
    given = [(k, v) for k, v in (("bits", bits), ("sparsity", sparsity), ("kept", kept)) if v is not None]
    if len(given) > 1:
        raise InvalidInputError("give one of bits, sparsity and kept, not " + " and ".join(k for k, _ in given))
    rows = _of_metric(rows, metric)
    key, asked = given[0] if given else (_only_key(rows), None)
    rows, matched = _nearest(rows, key, asked, method)
    rows, note = _of_size(rows, model_params)
    losses = [row.loss for row in rows]
    return QualityEstimate(rows[0].metric, median(losses), min(losses), max(losses), matched, tuple(rows), note)


def sparsity_loss(method: str, sparsity: float, *, model_params: float, metric: Metric) -> QualityEstimate:
    """The relative loss of quality at a sparsity between those that were published, and 0 where nothing is removed.

    The logarithm of what is left of quality is drawn straight between the published points, each the rows of the nearest
    size there, and never falls on the way to more zeros. Beyond the last point its loss is the least to expect: `note`
    says so. Raises: as `accuracy_delta`.
    """
    rows = _of_metric(_of_method(method), metric)
    points = sorted({row.sparsity for row in rows if row.sparsity})
    if not points:
        raise UnsupportedError(f"rows of {method} do not say their sparsity")
    found = [accuracy_delta(method, sparsity=s, model_params=model_params, metric=metric) for s in points]
    losses = {end: np.maximum.accumulate([0.0, *(getattr(e, end) for e in found)]) for end in ("median", "low", "high")}
    at = {end: float(np.expm1(np.interp(sparsity, [0.0, *points], np.log1p(loss)))) for end, loss in losses.items()}
    beyond = f"nobody published beyond {points[-1]:g} of the weights removed: the loss there is the least to expect"
    note = beyond if sparsity > points[-1] else None
    used = tuple(row for e in found for row in e.rows) if sparsity else ()
    return QualityEstimate(metric, at["median"], at["low"], at["high"], min(sparsity, points[-1]), used, note)


def _of_method(method: str) -> list[QualityRow]:
    name = method.strip().lower()
    rows = [row for row in quality_rows() if name in (row.method.lower(), row.variant.lower())]
    if not rows:
        names = {row.method for row in quality_rows()} | {row.variant for row in quality_rows()}
        raise unknown("compression method", method, names)
    return rows


def _of_metric(rows: list[QualityRow], metric: Metric | None) -> list[QualityRow]:
    present = {row.metric for row in rows}
    wanted = metric or ("perplexity" if "perplexity" in present else "accuracy")
    if wanted not in present:
        raise UnsupportedError(
            f"no published {wanted} for this method", hint="there is " + " and ".join(sorted(present))
        )
    return [row for row in rows if row.metric == wanted]


def _only_key(rows: Sequence[QualityRow]) -> str:
    """The quantity a method is characterised by."""
    for key in ("bits", "sparsity", "kept"):
        if getattr(rows[0], key) is not None:
            return key
    raise UnsupportedError(f"rows of {rows[0].method} have neither bits, sparsity nor kept share")


def _nearest(rows: list[QualityRow], key: str, asked: float | None, method: str) -> tuple[list[QualityRow], float]:
    """The rows closest to what was asked, and where they are; all of one recipe when nothing was asked."""
    with_key = [(row, getattr(row, key)) for row in rows if getattr(row, key) is not None]
    values = sorted({value for _row, value in with_key})
    if not values:
        raise UnsupportedError(f"published rows of '{method}' do not say their {key}")
    reach = {"bits": MAX_BITS_AWAY, "sparsity": MAX_SPARSITY_AWAY, "kept": MAX_KEPT_AWAY}[key]
    if asked is None:
        if values[-1] - values[0] > reach:
            raise InvalidInputError(
                f"'{method}' was published for {key} from {values[0]:g} to {values[-1]:g}: say which"
            )
        return [row for row, _value in with_key], median(value for _row, value in with_key)
    if not math.isfinite(asked) or asked <= 0:
        raise InvalidInputError(f"{key} is a positive number, not {asked}")
    distance = min(abs(value - asked) for value in values)
    if distance > reach:
        near = min(values, key=lambda value: abs(value - asked))
        raise UnsupportedError(
            f"no published row of '{method}' near {asked:g} {key}", hint=f"the nearest is at {near:g}"
        )
    # file sizes put one recipe at slightly different bits on each model: take a tenth of the reach beyond the nearest
    chosen = [(row, value) for row, value in with_key if abs(value - asked) <= distance + reach / 10]
    return [row for row, _value in chosen], median(value for _row, value in chosen)


def _of_size(rows: list[QualityRow], params: float | None) -> tuple[list[QualityRow], str | None]:
    if params is None:
        return rows, None
    if not (math.isfinite(params) and params > 0):
        raise InvalidInputError(f"a model has a positive number of parameters, not {params}")
    reach = math.log(NEAREST_SIZE_FACTOR)
    close = [row for row in rows if row.params and abs(math.log(row.params / params)) <= reach]
    if close:
        return close, None
    return (
        rows,
        f"no row on a model within a factor {NEAREST_SIZE_FACTOR:g} of {params:g} parameters: all sizes are used",
    )
