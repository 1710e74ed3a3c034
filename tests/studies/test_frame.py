"""The frame of studies: tolerances, verdicts, discovery, and that no shipped study hides a miss."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.cli import run
from waferline.errors import InvalidInputError, UnknownNameError
from waferline.evidence.studies.registry import load_study, run_study, study_names
from waferline.evidence.studies.study import NO_REASON, VERDICTS, Check, Source, Study, headline, identity, own
from waferline.evidence.studies.tolerance import absolute, at_least, at_most, between, printed, relative
from waferline.report.charts.checks import study_chart

POSITIVE = st.floats(1e-6, 1e9)
SLOW = {"two-pass-softmax", "inference-x"}  # they measure or simulate for seconds
FAST = [name for name in study_names() if name not in SLOW]


@given(POSITIVE, st.floats(0.001, 0.5), st.floats(-0.9, 3.0))
def test_a_relative_tolerance_is_a_share_of_the_published_value(published: float, share: float, off: float) -> None:
    check = Check("x", "", published, published * (1 + off), relative(share))
    if abs(abs(off) - share) > 1e-6:
        assert check.verdict == ("compared with data" if abs(off) < share else "missed")
        assert math.isclose(check.error, off, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("text", "computed", "verdict"),
    [("2.36", 2.3649, "identity"), ("2.36", 2.3651, "missed"), ("40", 39.6, "identity"), ("40", 39.4, "missed")],
)
def test_printed_digits_are_the_tolerance(text: str, computed: float, verdict: str) -> None:
    assert identity("x", "", float(text), computed, printed(text)).verdict == verdict


@pytest.mark.parametrize(
    ("tolerance", "good", "bad"),
    [(at_least(2.0), 2.0, 1.9), (at_most(2.0), 2.0, 2.1), (between(1.0, 2.0), 1.5, 2.5)],
)
def test_ranges_need_no_published_value(tolerance: object, good: float, bad: float) -> None:
    assert Check("x", "", None, good, tolerance).verdict == "bound holds"  # type: ignore[arg-type]
    assert Check("x", "", None, bad, tolerance).verdict == "missed"  # type: ignore[arg-type]


def test_what_is_not_finite_is_missed_and_what_is_absent_is_not_checkable() -> None:
    assert Check("x", "", 1.0, math.nan, relative(0.5)).verdict == "missed"
    assert Check("x", "", 1.0, None, relative(0.5)).verdict == "not checkable"
    assert Check("x", "", None, 1.0, relative(0.5)).verdict == "not checkable"
    assert NO_REASON in Check("x", "", 1.0, 2.0, relative(0.5)).verdict_text


def test_a_refusal_of_our_own_models_becomes_a_row() -> None:
    def compute() -> list[Check]:
        raise InvalidInputError("no such thing")

    report = run_study(Study("s", "t", Source("u", "2020"), "c", {}, compute))
    assert [c.verdict for c in report.checks] == ["not checkable"]
    assert "no such thing" in report.checks[0].verdict_text


def test_names_are_files_and_a_wrong_one_names_the_nearest() -> None:
    assert load_study("moe_lens") is load_study("moe-lens")
    with pytest.raises(UnknownNameError, match="moe-lens"):
        load_study("moe-lense")


@pytest.mark.parametrize("name", FAST)
def test_every_study_runs_and_every_miss_has_its_reason(name: str) -> None:
    study = load_study(name)
    assert study.name == name and study.source.url.startswith("http") and study.claim and study.configuration
    report = run_study(study)
    assert report.checks
    for check in report.checks:
        unexplained = check.verdict in ("missed", "not checkable") and not check.why
        assert not unexplained, check.quantity
        assert check.tolerance is None or check.tolerance.origin
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("study", "quantity", "verdict"),
    [
        ("kv-prediction", "FLOPs ratio", "identity"),
        ("pangu-pro-moe", "parameters", "identity"),
        ("moe-lens", "KV cache", "identity"),
        ("moe-survey", "flagged", "own check"),
        ("mlx", "rejected", "own check"),
        ("speculative-decoding", "acceptance", "identity"),
    ],
)
def test_arithmetic_without_a_constant_is_exact(study: str, quantity: str, verdict: str) -> None:
    checks = [c for c in run_study(load_study(study)).checks if quantity in c.quantity]
    assert checks and all(c.verdict == verdict for c in checks)


def test_what_must_fail_fails() -> None:
    """A FLOPs model of KV Prediction, and a mixture without dispatch, are known to miss."""
    missed = {c.quantity for s in ("kv-prediction", "pangu-pro-moe") for c in run_study(load_study(s)).misses}
    assert sum("FLOPs alone" in q for q in missed) == 5
    assert "decode step alone, no dispatch term" in missed


def test_a_chart_holds_every_comparable_quantity() -> None:
    rows = study_chart(run_study(load_study("speculative-decoding"))).rows()
    assert sum("drafted: speed" in row["y"] for row in rows if row["series"] != "agreement") >= 6


def test_names_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "--help"]) == 0
    capsys.readouterr()
    assert run(["study", "run"]) == 2
    assert "name one or more" in capsys.readouterr().err
    assert run(["study", "run", "kv-prediction", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["counts"]["identity"] >= 11 and report["comparisons"] == {"within": 5, "all": 13}


def test_only_comparisons_with_data_are_counted_in_the_headline() -> None:
    """Identities, bounds, own checks and fitted values agree without showing that a prediction is good."""

    def compute() -> list[Check]:
        yield Check("data", "", 1.0, 1.1, relative(0.2))
        yield Check("a miss", "", 1.0, 2.0, relative(0.2), "a reason")
        yield Check("fitted", "", 1.0, 1.0, relative(0.2), fitted=True)
        yield identity("print against print", "", 1.0, 1.0, relative(0.2))
        yield own("code against code", "", 0.0, 0.0, absolute(0.0))
        yield Check("a law", "", 1.0, 5.0, at_least(1.0))

    report = run_study(Study("s", "t", Source("u", "2020"), "c", {}, compute))
    assert report.comparisons == (1, 2) and headline([report]).startswith("1 of 2")
    assert [c.verdict for c in report.checks] == [
        "compared with data",
        "missed",
        "compared with data",
        "identity",
        "own check",
        "bound holds",
    ]
    assert {c.verdict for c in report.checks} < set(VERDICTS)


@given(POSITIVE)
def test_what_is_ours_never_stands_as_published(reference: float) -> None:
    check = own("x", "", reference, reference, absolute(0.0))
    assert check.published is None and check.to_json()["published"] is None
    assert f"{reference:g}" in check.expectation
