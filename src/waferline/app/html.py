"""A page as HTML: a form, the answer in words, charts, tables, and ways to take it elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from waferline.app.export import ENDINGS
from waferline.app.page import Page
from waferline.app.question import Control
from waferline.app.views import VIEWS, View
from waferline.encode import dumps, encode
from waferline.machines.hardware import hardware_names
from waferline.report.charts.interactive import figure
from waferline.report.table import Table
from waferline.workloads.models import model_names

_SHORT = 14  # letters that one column shows
_TEMPLATE = Path(__file__).parent / "static" / "page.html"


@cache
def _template() -> str:
    return _TEMPLATE.read_text(encoding="utf-8")


@cache
def _lists() -> str:
    """The names that inputs complete."""
    made = ""
    for kind, names in (("model", model_names()), ("machine", hardware_names())):
        made += f'<datalist id="{kind}s">{"".join(f"<option>{escape(n)}</option>" for n in names)}</datalist>'
    return made


def document(name: str, values: Mapping[str, str], page: Page, *, error: str = "", dark: bool = False) -> str:
    """The whole page of view `name`. error: why there is no answer."""
    view = VIEWS[name]
    parts = {
        "theme": "dark" if dark else "light",
        "title": escape(view.title),
        "about": escape(view.about),
        "links": "".join(_link(key, other, key == name) for key, other in VIEWS.items()),
        "form": _form(name, view, values),
        "lists": _lists(),
        "answer": _alert(error) if error else _answer(name, view, values, page, dark),
    }
    text = _template()
    head, *rest = text.split("{{")  # filled in one pass: nothing that a part says is read as a place again
    return head + "".join(parts[place] + tail for place, _, tail in (part.partition("}}") for part in rest))


def _link(key: str, view: View, here: bool) -> str:
    return f'<a href="/{key}"{" aria-current=page" if here else ""}>{escape(view.title)}</a>'


def _form(name: str, view: View, values: Mapping[str, str]) -> str:
    plain = "".join(_input(c, values[c.name]) for c in view.controls if not c.more)
    more = "".join(_input(c, values[c.name]) for c in view.controls if c.more)
    given = any(values[c.name] != c.value for c in view.controls if c.more)
    behind = (
        f"<details{' open' if given else ''}><summary>More options</summary><div class=fields>{more}</div></details>"
    )
    file = (
        "<div class=file><label for=file>or a model of your own (config.json or .gguf; read here, never kept)</label>"
        '<input id=file type=file accept=".json,.gguf"></div>'
    )
    button = "<button type=submit>Ask</button>" if view.controls else ""
    body = f"<div class=fields>{plain}</div>{behind if more else ''}{file if view.file else ''}{button}"
    return f'<form id=question action="/{name}" method=get>{body}</form>' if view.controls else ""


def _input(control: Control, value: str) -> str:
    key = escape(control.name)
    if control.kind == "choice":
        options = "".join(
            f"<option{' selected' if choice == value else ''}>{escape(choice)}</option>" for choice in control.choices
        )
        field = f"<select id={key} name={key}>{options}</select>"
    else:
        beside = {"count": "inputmode=numeric", "model": "list=models", "machine": "list=machines"}.get(
            control.kind, ""
        )
        told = f' placeholder="{escape(control.hint, quote=True)}"' if control.hint else ""
        field = f'<input id={key} name={key} value="{escape(value, quote=True)}" autocomplete=off spellcheck=false {beside}{told}>'
    wide = " wide" if max(map(len, (*control.choices, control.value))) > _SHORT else ""
    return f"<div class='field{wide}'><label for={key}>{escape(control.label)}</label>{field}</div>"


def _alert(error: str) -> str:
    return f'<p class="sentence alarm" role=alert>{escape(error)}</p>'


def _answer(name: str, view: View, values: Mapping[str, str], page: Page, dark: bool) -> str:
    query = urlencode({c.name: values[c.name] for c in view.controls})
    shade = "&dark=1" if dark else ""
    sentence = (
        f'<p class="sentence{" alarm" if page.alarm else ""}">{escape(page.sentence).replace(" %", "&nbsp;%")}</p>'
        if page.sentence
        else ""
    )
    tiles = "".join(
        f"<div class=tile><dt>{escape(label)}</dt><dd>{escape(figure_)}<small>{escape(sure)}</small></dd></div>"
        for label, figure_, sure in page.tiles
    )
    charts = f"<dl class=tiles>{tiles}</dl>" if tiles else ""
    for n, chart in enumerate(page.charts):
        plain = replace(chart, title="", note="")  # said in HTML, where it wraps
        pictures = _files(name, ("png", "svg"), f"{query}&chart={n}{shade}")
        note = f"<p>{escape(chart.note)}</p>" if chart.note else ""
        charts += _figure(chart.title, chart.height, figure(plain, dark=dark), f"{note}{pictures}")
    if page.film is not None:
        moving = page.film(dark=dark)
        title = moving["layout"].pop("title")["text"]
        charts += _figure(title, moving["layout"]["height"], moving, "")
    return sentence + charts + _blocks(page) + _elsewhere(name, query, page, shade)


def _figure(title: str, height: int, spec: dict[str, Any], below: str) -> str:
    data = _text(spec).replace("</", "<\\/")
    return (
        f'<figure><h2>{escape(title)}</h2><div class=chart style="height:{height}px" role=group '
        f'aria-label="{escape(title, quote=True)}"></div><script type=application/json class=spec>{data}</script>'
        f"<figcaption>{below}</figcaption></figure>"
    )


def _text(spec: dict[str, Any]) -> str:
    """A figure as JSON: by the encoder in C, but where a number is none that JSON has."""
    try:
        return json.dumps(spec, default=encode, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return dumps(spec, indent=None)


def _blocks(page: Page) -> str:
    made = ""
    for block in page.blocks:
        if isinstance(block, Table):
            title = f"<h3>{escape(block.title)}</h3>" if block.title else ""
            label = escape(block.title or "table", quote=True)
            made += f'{title}<div class=scroll tabindex=0 role=region aria-label="{label}">{block.html()}</div>'
        elif isinstance(block, str):
            made += f"<p>{escape(block)}</p>" if block else ""
        else:
            text, style = block
            made += f"<h2>{escape(text)}</h2>" if style == "title" else f'<p class="{escape(style)}">{escape(text)}</p>'
    return made


def _files(name: str, endings: Iterable[str], query: str) -> str:
    """Links to an answer as files."""
    return " ".join(f'<a href="/{name}.{end}?{escape(query)}" download>{ENDINGS[end][0]}</a>' for end in endings)


def _elsewhere(name: str, query: str, page: Page, shade: str) -> str:
    files = _files(
        name, [ending for ending in ENDINGS if not page.charts or ending not in ("png", "svg")], query + shade
    )
    lines = "".join(
        f"<h3>{title}</h3><pre tabindex=0>{escape(text)}</pre>"
        for title, text in (("The same on the command line", page.cli), ("The same in Python", page.python))
        if text
    )
    return f"<section class=elsewhere aria-label=Export><h2>Take it elsewhere</h2><p>{files}</p>{lines}</section>"
