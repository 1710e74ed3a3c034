"""Rows that cannot all be true: each rule on rows made to break it, and none of them on rows that scatter as repeats do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from waferline.cli import run
from waferline.evidence.folder import PACKAGED
from waferline.evidence.lint import RULES, lint, with_marks
from waferline.evidence.rows import Row, read_rows, write_rows

BASE = Row(
    id="a", hardware="nvidia-h100-sxm-80gb", model="llama-3-8b", phase="serve", metric="ttft_s", value=0.1, source="lab",
    devices=1, weight_format="bf16", batch=1, input_tokens=1024, output_tokens=256, tp=1, engine="vLLM", engine_version="1",
)  # fmt: skip
RATE = replace(BASE, metric="output_tokens_per_s", value=100.0)
RUN = replace(
    BASE,
    source="MLPerf Training v4.1",
    locator="a",
    model="ssd",
    phase="train",
    metric="samples_per_s",
    devices=8,
    batch=256,
)


def _rows(*changes: dict[str, object], of: Row = BASE) -> list[Row]:
    return [replace(of, id=str(i), **change) for i, change in enumerate(changes)]  # type: ignore[arg-type]


BROKEN = {
    "repeats-apart": _rows(
        {"value": 0.10, "notes": "measured=2026-01-01"}, {"value": 0.31, "notes": "measured=2026-02-01"}
    ),
    "warm-up": _rows({"value": 0.9}, {"value": 0.1, "batch": 4}, {"value": 0.2, "batch": 8}),
    "start-up": _rows(
        *(
            {"batch": n, "tp": 4, "value": s}
            for n, s in ((4, 0.4), (8, 0.6), (16, 0.9), (32, 7.1), (64, 7.5), (128, 7.6))
        ),
        # Places that ran out: those that wait wait longer, the more they are.
        *({"batch": n, "tp": 8, "value": s} for n, s in ((16, 0.9), (32, 7.1), (64, 15.0))),
    ),
    "falls-with-batch": _rows({"value": 400, "batch": 8}, {"value": 100, "batch": 16}, of=RATE),
    "rises-with-length": _rows({"value": 100}, {"value": 150, "input_tokens": 8192}, of=RATE),
    "version-level": [
        replace(RATE, id=f"{v}{b}", batch=b, value=100 * b * level, engine_version=v)
        for v, level in (("1", 1.0), ("2", 1.02), ("3", 1.9))
        for b in (1, 2, 4)
    ],
    "contradicted-source": [
        *_rows({"batch": 8, "input_tokens": 8192, "notes": "another table"}),
        *(replace(BASE, id=f"{b}", source="slow", batch=b, value=0.3 + 0.1 * b) for b in (2, 4, 6)),
        replace(RATE, id="rate", source="slow", model="qwen3-32b"),
    ],
    "two-labels": _rows({"value": 123.456}, {"value": 123.456, "model": "llama-3.1-8b"}, of=RATE),
    "part-of-a-run": _rows(
        {"value": 285.0},
        {"value": 2142.7, "metric": "time_to_train_s"},  # eight devices, of which the rate counts one
        {"value": 3866.0, "locator": "b"},
        {"value": 1324.1, "locator": "b", "metric": "time_to_train_s"},
        of=RUN,
    ),
    "outpaced-rate": _rows(
        {"value": 38.0},
        {"value": 0.0004, "metric": "latency_s"},  # 2,500 a second of one batch alone
        {"value": 347.0, "locator": "b"},
        {"value": 0.008, "locator": "b", "metric": "latency_s"},  # three at once
        of=replace(RUN, phase="generate", batch=1, devices=1),
    ),
}
GUILTY = {"repeats-apart": {"0", "1"}, "warm-up": {"0"}, "start-up": {"3", "4", "5"},
          "falls-with-batch": {"1"}, "rises-with-length": {"1"},
          "version-level": {"31", "32", "34"}, "contradicted-source": {"2", "4", "6", "rate"}, "two-labels": {"1"},
          "part-of-a-run": {"0"}, "outpaced-rate": {"0", "1"}}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_finds_what_breaks_it_and_nothing_beside(rule: str) -> None:
    marks = lint(BROKEN[rule])
    assert {m.id for m in marks} == GUILTY[rule]
    assert {m.rule for m in marks} == {rule}


def test_a_source_that_is_slower_on_one_setting_of_several_is_believed() -> None:
    rows = BROKEN["contradicted-source"]
    kept = [replace(r, value=0.05) if r.id in ("2", "4") else r for r in rows]
    assert lint(kept) == []


def test_how_many_requests_a_figure_is_the_mean_of_is_no_setting() -> None:
    rows = _rows(
        {"value": 0.9, "notes": "random data, 40 prompts"},
        {"value": 0.1, "batch": 4, "notes": "random data, 160 prompts"},
    )
    assert {m.id: m.rule for m in lint(rows)} == {"0": "warm-up"}


def test_rows_that_scatter_as_repeats_do_are_left_alone() -> None:
    rows = [
        replace(RATE, id=f"{b}-{i}", batch=b, value=100 * b**0.8 * (1 + 0.04 * i), notes=f"measured=2026-01-0{i + 1}")
        for b in (1, 2, 4, 8)
        for i in range(3)
    ]
    assert lint(rows) == []


def test_marked_rows_are_suspect_and_claims_are_not_judged() -> None:
    marked = with_marks(BROKEN["warm-up"])
    assert [bool(r.suspect) for r in marked] == [True, False, False]
    assert marked[0].suspect.startswith("warm-up: ")
    assert lint([replace(r, kind="claimed") for r in BROKEN["warm-up"]]) == []
    assert with_marks(marked) == marked


def test_the_command_names_rule_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "rows.csv", BROKEN["falls-with-batch"])
    assert run(["evidence", "lint", str(tmp_path / "rows.csv"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [(m["id"], m["rule"]) for m in data["marks"]] == [("1", "falls-with-batch")]
    assert run(["evidence", "lint", str(tmp_path / "missing.csv")]) == 2


def test_few_of_the_packaged_rows_are_marked() -> None:
    rows = read_rows(PACKAGED)
    assert len({m.id for m in lint(rows)}) < 0.02 * len(rows)
