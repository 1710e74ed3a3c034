"""Studies as tables and charts: published beside computed, and the verdict in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from waferline.evidence.studies.own_case import OwnCase
from waferline.evidence.studies.study import VERDICTS, Study, StudyReport, headline
from waferline.report.table import Block, Column, Table
from waferline.text import metric, number

CHECKS = ("quantity", "unit", Column("published", number), Column("computed", number), "how", "tolerance", "verdict")
_COUNTS = tuple(Column(name, "d") for name in ("within", "of comparisons", *VERDICTS))


def study_list(studies: Sequence[Study]) -> Iterator[Block]:
    rows = [(s.name, s.source.date, s.title) for s in studies]
    yield Table(f"{len(studies)} studies", ("name", "date", "title"), rows)


def study_report(reports: Sequence[StudyReport]) -> Iterator[Block]:
    """Every check of every study, then one line a study."""
    for r in reports:
        s = r.study
        yield s.title, "title"
        yield f"{s.source.url}, {s.source.date}", "note"
        yield f"claim: {s.claim}"
        yield "; ".join(f"{k}: {v}" for k, v in s.configuration.items()), "note"
        if s.note:
            yield f"note: {s.note}", "note"
        yield check_table(r)
    if len(reports) > 1:
        yield overview_table(reports)
    yield headline(reports)


def check_table(r: StudyReport, *, origins: bool = False) -> Table:
    """The checks of a study; with `origins` also who fixed each tolerance."""
    rows = []
    for c in r.checks:
        origin = c.tolerance.origin if c.tolerance else ""
        cells = (c.quantity, c.unit, c.published, c.computed, c.how, c.expectation)
        rows.append((*cells, origin, c.verdict_text) if origins else (*cells, c.verdict_text))
    columns = (*CHECKS[:-1], "set by", CHECKS[-1]) if origins else CHECKS
    return Table("", columns, rows)


def overview_table(reports: Sequence[StudyReport]) -> Table:
    """Verdicts and time of every study, and of all."""
    rows = [(r.study.name, *r.comparisons, *map(r.count, VERDICTS), r.wall_s) for r in reports]
    sums = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    return Table("Studies", ("study", *_COUNTS, Column("time", ".1f")), [*rows, ("all", *sums)])


# Label and field of what a mechanism may change, and how its value is written; what an answer does not tell is left out.
_CHANGED = (
    ("TTFT", "ttft_s", "s"),
    ("TPOT", "itl_s", "s"),
    ("tokens/s in total", "throughput_tokens_per_s", "tok/s"),
    ("latency", "latency_s", "s"),
    ("step time", "step_time_s", "s"),
    ("samples/s", "samples_per_s", ""),
    ("memory of each device", "device_memory_bytes", "B"),
    ("largest batch", "max_batch_size", ""),
)


def own_case_report(case: OwnCase) -> Iterator[Block]:
    """The user's case with a study's mechanism, and without it where it can be left out."""
    plain, changed = case.plain, case.changed
    how = f"{case.mechanism} on " if case.mechanism else ""
    yield f"{case.study}: {how}{changed.model.title}, {changed.device.title}", "title"
    yield ""
    answers = [answer.result for answer in (plain, changed) if answer is not None]
    rows = []
    for label, field, unit in _CHANGED:
        values = [float(np.ravel(r[field])[0]) for r in answers if field in r]
        if len(values) == len(answers):
            ratio = [f"{values[1] / values[0]:.2f}" if values[0] else ""] if plain else []
            rows.append((label, *(metric(value, unit) for value in values), *ratio))
    heads = ("without it", "with it", "ratio") if plain else ("",)
    fits = ["yes" if np.ravel(r["feasible"])[0] else "no" for r in answers]
    rows.append(("fits", *fits, *([""] if plain else [])))
    yield Table("", ("", *(Column(name, left=False) for name in heads)), rows)
    for note in changed.result.notes:
        yield f"note: {note}", "note"
