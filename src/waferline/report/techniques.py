"""Techniques as tables: all of them, or one with its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from waferline.predict.techniques import Parameter, Technique
from waferline.report.table import Block, Table


def techniques_report(shown: Mapping[str, Technique]) -> Iterator[Block]:
    """Every technique on a line."""
    rows = [
        (name, t.title, ", ".join(f"{k}={_usual(p)}" for k, p in t.parameters.items())) for name, t in shown.items()
    ]
    yield Table("techniques", ("name", "what it does", "parameters and what they are unless given"), rows)
    yield "waferline techniques NAME tells its source, limits and checks; --with NAME:key=value,... asks for it", "note"


def technique_report(shown: Mapping[str, Technique]) -> Iterator[Block]:
    """One technique, its parameters, and what is known of it."""
    for name, t in shown.items():
        yield f"{name}: {t.title}", "title"
        yield ""
        yield Table(
            "",
            ("parameter", "unless given", "may be", "meaning"),
            parameter_rows(t),
        )
        for label, text in (("source", t.source), ("limits", t.limits), ("checked against", t.checked)):
            yield f"{label}: {text}", "note"


def parameter_rows(t: Technique) -> list[tuple[str, str, str, str]]:
    """(name, unless given, may be, meaning) of each parameter."""
    return [(k, _usual(p), _range(p), p.meaning) for k, p in t.parameters.items()]


def techniques_data(shown: Mapping[str, Technique]) -> list[dict[str, Any]]:
    return [
        {
            "name": name, "title": t.title, "source": t.source, "limits": t.limits, "checked": t.checked,
            "parameters": {k: {"meaning": p.meaning, "default": p.default, "range": _range(p)} for k, p in t.parameters.items()},
        }
        for name, t in shown.items()
    ]  # fmt: skip


def _usual(p: Parameter) -> str:
    if p.default is None:
        return "none" if p.optional else "must be given"
    return f"{p.default:g}" if isinstance(p.default, float) else str(p.default)


def _range(p: Parameter) -> str:
    if p.text:
        return "the name of a model"
    if p.words:
        return ", ".join(p.words)
    return f"{p.least:g} or more" if p.most == float("inf") else f"{p.least:g} to {p.most:g}"
