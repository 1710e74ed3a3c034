"""The model catalogue: names, and one model by its name.

`Models` gives the same by attribute (`Models.Llama3_8B`), with completion. Files are `catalog/models/<name>.yaml`: a file
that is put there is a model.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from waferline.catalog import ROOT
from waferline.catalog.names import identifier, resolve, spoken
from waferline.catalog.yaml_file import packaged_names, read_packaged
from waferline.errors import UnknownNameError, unknown
from waferline.workloads.model_file import model_from_facts
from waferline.workloads.spec import ModelSpec

FOLDER = ROOT / "models"


def model_names() -> list[str]:
    """Every model of the catalogue, by its name."""
    return packaged_names("models")


@cache
def attributes() -> dict[str, str]:
    """Attribute of `Models` → name of the model."""
    facts = {name: model_facts(name) for name in model_names()}
    return {f.get("attribute") or identifier(f["title"]): name for name, f in facts.items()}


@cache
def _aliases() -> dict[str, str]:
    facts = {name: model_facts(name) for name in model_names()}
    return {alias: name for name, f in facts.items() for alias in (f["title"], *(f.get("aliases") or ()))}


def find_model(name: str) -> str:
    """The catalogue name that `name` means.

    Raises: UnknownNameError naming the nearest models.
    """
    return resolve(name, model_names(), _aliases(), "model")


def model_facts(name: str) -> dict[str, Any]:
    """The catalogue file of the model with this very name, as data. The caller must not change it."""
    facts: dict[str, Any] = read_packaged(f"models/{name}.yaml")
    return facts


def catalog_model(name: str) -> ModelSpec:
    """The catalogue model called `name` (any case; spaces, `-`, `_`, `.` do not matter), or one of its aliases.

    Raises: UnknownNameError naming the nearest models.
    """
    return _packaged(find_model(name))


@cache
def _packaged(name: str) -> ModelSpec:
    return model_from_facts(model_facts(name), f"{name}.yaml")


_FIELDS = frozenset({"Language", "Vision", "Tiny", "Recommendation", "StateSpace", "GenerativeVision"})


class _Models:
    """Catalogue models by attribute: `Models.Llama3_8B`. `dir(Models)` lists them.

    A field of use may stand before the name, as lessons write it (`Models.Language.Llama3_8B`); every field has every model.
    """

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if attribute in _FIELDS:
            return self
        wanted = spoken(attribute)
        found = next((name for known, name in attributes().items() if spoken(known) == wanted), attribute)
        try:
            return catalog_model(found)
        except UnknownNameError:
            raise AttributeError(str(unknown("model", attribute, attributes()))) from None

    def __dir__(self) -> list[str]:
        return sorted(attributes())

    def __repr__(self) -> str:
        return f"<Models: {len(model_names())} models, such as Models.Llama3_8B>"


Models = _Models()
