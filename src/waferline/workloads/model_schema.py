"""The schema of a model file: names, published counts, sources, and one description of the layers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from waferline.catalog.schema import checked

_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_FORMS = ("config", "transformer", "convnet", "learner")


class SourceEntry(BaseModel):
    """Where the facts come from."""

    model_config = ConfigDict(extra="forbid")
    title: _Text
    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    date: date


class ModelFile(BaseModel):
    """A model file. Exactly one of `config`, `transformer`, `convnet` and `learner` describes the layers."""

    model_config = ConfigDict(extra="forbid", strict=False)
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$")]
    title: _Text
    attribute: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    aliases: list[_Text] = []
    family: str | None = None
    published_params: _Count | None = None
    published_active_params: _Count | None = None
    published_macs: _Count | None = None
    sources: list[SourceEntry] = []
    metadata: dict[str, str] = {}
    config: dict[str, Any] | None = None
    transformer: dict[str, Any] | None = None
    convnet: dict[str, Any] | None = None
    learner: dict[str, Any] | None = None

    @model_validator(mode="after")
    def one_form(self) -> ModelFile:
        given = [form for form in _FORMS if getattr(self, form) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_FORMS)}, has {', '.join(given) or 'none'}")
        return self


def check_model(data: Mapping[str, Any], where: str) -> ModelFile:
    """`data` checked against the schema.

    Raises: FileFormatError naming the first offending key, and the nearest valid one when it is misspelt.
    """
    return checked(ModelFile, dict(data), where)
