"""A check answers for every row, alone as in a crowd, and its figures are those of its rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from waferline.errors import UnknownNameError
from waferline.evidence.check import check
from waferline.evidence.outcome import Outcome
from waferline.evidence.report import Report

from .test_scenario import DECODE, REFUSED


def test_no_row_is_dropped(packaged: Report) -> None:
    ids = [o.row.id for o in packaged.outcomes]
    assert len(set(ids)) == len(ids) > 3000
    assert all(o.answered != (o.refused is not None) for o in packaged.outcomes)
    assert packaged.total.predicted + sum(packaged.total.refused.values()) == packaged.total.rows


def test_nearly_every_complete_row_is_answered(packaged: Report) -> None:
    assert packaged.total.answered >= 0.95


def test_every_answer_lies_in_its_interval_and_never_beats_light(packaged: Report) -> None:
    for o in packaged.outcomes:
        if not o.answered:
            continue
        assert o.low90 <= o.predicted * (1 + 1e-9) and o.predicted <= o.high90 * (1 + 1e-9), o.row.id
        fastest = (
            o.predicted <= o.light * (1 + 1e-6)
            if o.row.metric.endswith(("per_s", "device")) or o.row.metric == "mfu"
            else o.predicted >= o.light * (1 - 1e-6)
        )
        assert fastest, (o.row.id, o.predicted, o.light)


def test_a_row_alone_is_answered_as_in_a_crowd(packaged: Report) -> None:
    some = [o for o in packaged.outcomes if o.answered][::211]
    alone = [check([o.row]).outcomes[0] for o in some]
    for together, single in zip(some, alone, strict=True):
        assert single.predicted == pytest.approx(together.predicted, rel=1e-9), together.row.id
        assert single.light == pytest.approx(together.light, rel=1e-9)


def test_figures_are_those_of_the_rows(packaged: Report) -> None:
    scored = [o for o in packaged.outcomes if o.scored]
    errors = np.abs([o.predicted / o.row.value - 1 for o in scored])
    assert packaged.total.median_error == pytest.approx(np.median(errors))
    assert packaged.total.coverage == pytest.approx(np.mean([o.low90 <= o.row.value <= o.high90 for o in scored]))
    for grouping in ("source", "machine", "phase", "metric", "engine", "tier", "model"):
        assert sum(f.rows for f in packaged.by(grouping)) == packaged.total.rows


def test_an_impossible_published_value_is_suspect_and_not_scored() -> None:
    (outcome,) = check([replace(DECODE, value=1e-6)]).outcomes
    assert outcome.answered and outcome.faster_than_light and not outcome.scored
    assert outcome.suspect.startswith("faster than light")


def test_refusals_are_counted_by_kind() -> None:
    rows = [replace(row, id=name) for name, (row, _) in REFUSED.items()]
    report = check([*rows, DECODE])
    assert report.total.predicted == 1
    assert sum(report.total.refused.values()) == len(rows)


def test_slower_means_slower_for_times_and_rates() -> None:
    late = Outcome(replace(DECODE, metric="tpot_s", value=1.0), predicted=2.0)
    weak = Outcome(replace(DECODE, metric="output_tokens_per_s", value=2.0), predicted=1.0)
    assert late.slower == pytest.approx(math.log(2)) == pytest.approx(weak.slower)


def test_an_unknown_grouping_is_told(packaged: Report) -> None:
    with pytest.raises(UnknownNameError, match="machine"):
        packaged.by("machin")


def test_a_batch_that_memory_does_not_hold_runs_at_the_rate_of_one_that_it_holds() -> None:
    """Engines with pages take the rest as places become free; 64 sequences of 4,096 tokens are 137 GB of a 7B model's cache."""
    long = replace(
        DECODE, model="llama-2-7b", hardware="nvidia-a100-sxm-40gb", phase="generate", metric="total_tokens_per_s"
    )
    long = replace(long, input_tokens=2048, output_tokens=2048, value=1000.0)
    few, many, more = (check([replace(long, batch=b)]).outcomes[0] for b in (8, 64, 128))
    assert few.predicted < many.predicted < 2.0 * few.predicted
    assert many.predicted == more.predicted
    assert any("does not fit at once" in note for note in many.notes)
