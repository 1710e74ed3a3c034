"""The model catalogue: names, and the facts of one model read from its one small file.

`Models` gives the same by attribute (`Models.Llama3_8B`), with completion. Files are `models/<name>.yaml`; their first
lines (`name`, `title`, `aliases`) are plain enough to be read without a YAML parser, so that finding a name among all
of them costs milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waferline.catalog import ROOT
from waferline.catalog.names import identifier, resolve, spoken
from waferline.catalog.yaml_file import read_packaged
from waferline.errors import unknown

if TYPE_CHECKING:
    from waferline.workloads.spec import ModelSpec

FOLDER = ROOT / "models"
_HEAD_BYTES = 1000  # name, title, attribute and aliases are within


@dataclass(frozen=True, slots=True)
class Heading:
    """What the first lines of a model file say."""

    name: str
    title: str
    attribute: str
    aliases: tuple[str, ...]


@cache
def headings() -> dict[str, Heading]:
    """The headings of every catalogue model by name, in order of name."""
    return {h.name: h for h in (_heading(path) for path in sorted(FOLDER.glob("*.yaml")))}


def _heading(path: Path) -> Heading:
    with path.open(encoding="utf-8") as file:
        text = file.read(_HEAD_BYTES)
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key in ("name", "title", "attribute", "aliases"):
            found[key] = value.strip().strip("\"'")
    aliases = tuple(a.strip().strip("\"'") for a in found.get("aliases", "").strip("[]").split(",") if a.strip())
    title = found["title"]
    return Heading(path.stem, title, found.get("attribute") or identifier(title), aliases)


def model_names() -> list[str]:
    """Every model of the catalogue, by its name."""
    return list(headings())


def find_model(name: str) -> str:
    """The catalogue name that `name` means.

    Raises: UnknownNameError naming the nearest models.
    """
    aliases = {alias: h.name for h in headings().values() for alias in (h.title, *h.aliases)}
    return resolve(name, headings(), aliases, "model")


def model_facts(name: str) -> dict[str, Any]:
    """The catalogue file of a model as data. The caller must not change it."""
    facts: dict[str, Any] = read_packaged(f"models/{find_model(name)}.yaml")
    return facts


def catalog_model(name: str) -> ModelSpec:
    """The catalogue model called `name` (any case; spaces, `-`, `_`, `.` do not matter), or one of its aliases.

    Raises: UnknownNameError naming the nearest models.
    """
    from waferline.workloads.load import model_from_facts  # facts are read here, models are made there

    found = find_model(name)
    return model_from_facts(read_packaged(f"models/{found}.yaml"), f"{found}.yaml")


class _Models:
    """Catalogue models by attribute: `Models.Llama3_8B`. `dir(Models)` lists them."""

    def __getattr__(self, attribute: str) -> ModelSpec:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        wanted = spoken(attribute)
        found = next((h.name for h in headings().values() if spoken(h.attribute) == wanted), None)
        if found is not None:
            return catalog_model(found)
        try:
            return catalog_model(attribute)
        except KeyError:
            error = unknown("model", attribute, [h.attribute for h in headings().values()])
            raise AttributeError(str(error)) from None

    def __dir__(self) -> list[str]:
        return sorted(h.attribute for h in headings().values())

    def __repr__(self) -> str:
        return f"<Models: {len(headings())} models, such as Models.Llama3_8B>"


Models = _Models()
