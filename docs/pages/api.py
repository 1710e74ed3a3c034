"""Everything public, from its docstrings: a page for mkdocstrings, grouped by the room that defines it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from types import ModuleType

import waferline
from docs.pages.markdown import write

_TITLES = {
    "machines": "Machines", "workloads": "Models", "predict": "Predict", "simulate": "Simulate", "traffic": "Traffic and plans",
    "search": "Search", "systems": "Systems", "measure": "Measure", "formats": "Formats", "show": "Tables", "errors": "Errors",
}  # fmt: skip


def page() -> str:
    """A heading a room, and what it offers."""
    where = sorted(map(_path, (n for n in dir(waferline) if not n.startswith("_"))), key=_room)
    parts = []
    for room, paths in groupby(where, key=_room):
        parts += [f"## {list(_TITLES.values())[room]}\n", *(f"::: {path}" for path in paths), ""]
    return "# API\n\nEvery name is an attribute of `waferline` itself: `import waferline as wl`.\n\n" + "\n".join(parts)


def _path(name: str) -> str:
    found = getattr(waferline, name)
    return found.__name__ if isinstance(found, ModuleType) else f"{found.__module__}.{name}"


def _room(path: str) -> int:
    return list(_TITLES).index(path.split(".")[1])


def build() -> list[Path]:
    """Write docs/reference/api.md."""
    return [write("reference/api.md", page())]
