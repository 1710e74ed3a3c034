"""Several answers as one table: of several machines, or of several batches and lengths on one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from waferline.predict.compare import Row
from waferline.predict.run import Answer
from waferline.report.answer import first, value
from waferline.report.table import Block, Column, Table
from waferline.text import dollars, number, percent

# field of any kind of result that has it -> its column; the first of several names that a result has
_SERVE = (
    (("devices",), Column("devices", ".0f")),
    (("feasible",), Column("fits")),
    (("memory_utilization",), Column("memory", percent)),
    (("max_batch_size",), Column("largest batch", ",.0f")),
    (("kv_capacity_tokens",), Column("KV tokens", number)),
    (("ttft_s",), Column("TTFT", unit="s")),
    (("itl_s",), Column("TPOT", unit="s")),
    (("user_tokens_per_s",), Column("tok/s per user", number)),
    (("throughput_tokens_per_s",), Column("tok/s in total", number)),
    (("decode_bottleneck", "bottleneck"), Column("bound by")),
    (("energy_j_per_token",), Column("J/token", unit="J")),
    (("cost_usd_per_mtoken",), Column("$/Mtok", dollars)),
)
_PASS = (
    (("feasible",), Column("fits")),
    (("latency_s", "step_time_s"), Column("latency", unit="s")),
    (("samples_per_s",), Column("samples/s", ".4g")),
    (("mfu",), Column("MFU", percent)),
    (("bottleneck",), Column("bound by")),
    (("energy_j_per_sample",), Column("J/sample", unit="J")),
)


def comparison_report(rows: Sequence[Row]) -> Iterator[Block]:
    """All machines, then what each note or refusal says."""
    answers = [row.answer for row in rows if row.answer is not None]
    body = [((row.hardware,), row.answer) for row in rows]
    yield _table(answers[0].model.title if answers else "", ("machine",), body)
    said: dict[str, list[str]] = {}
    for row in rows:
        notes: Sequence[Any] = (row.refused,) if row.answer is None else row.answer.notes
        for note in notes:
            said.setdefault(str(note), []).append(row.hardware)
    for note, machines in said.items():  # one note often is of all machines
        yield f"{'all' if len(machines) == len(rows) > 1 else ', '.join(machines)}: {note}", "note"


def points_report(points: Sequence[tuple[tuple[int | None, ...], Answer]]) -> Iterator[Block]:
    """One model on one machine at several batches or lengths: a line each, then the notes they share."""
    answers = [answer for _, answer in points]
    title = f"{answers[0].model.title} on {answers[0].device.title}"
    names = ("batch", "prompt", "output")
    given = [i for i in range(len(names)) if any(point[i] is not None for point, _ in points)]
    body = [(tuple(point[i] for i in given), answer) for point, answer in points]
    yield _table(title, [Column(names[i], ",d") for i in given], body)
    for note in dict.fromkeys(note for a in answers for note in (*a.result.notes, *a.notes)):
        yield f"note: {note}", "note"


def _table(title: str, keys: Sequence[Column | str], rows: Sequence[tuple[tuple[Any, ...], Answer | None]]) -> Table:
    answers = [answer for _, answer in rows if answer is not None]
    fields = _SERVE if any("ttft_s" in a.result for a in answers) else _PASS
    body = [(*key, *(_cell(answer, names, column) for names, column in fields)) for key, answer in rows]
    return Table(title, (*keys, *(column for _, column in fields)), body)


def _cell(answer: Answer | None, names: tuple[str, ...], column: Column) -> Any:
    if answer is None:
        return "–"
    if names == ("feasible",):
        return answer.fits
    name = next((n for n in names if n in answer.result), names[0])
    return str(first(answer.result, name)) if column.is_left else value(answer.result, name)
