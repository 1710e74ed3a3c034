"""What a configuration class of transformers assumes where a file is silent: one sourced table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from waferline.catalog.yaml_file import read_packaged

_FILE, _ENCODERS = "model_defaults.yaml", "tower_defaults.yaml"
_MOST_NAMED = 6  # assumed keys in a note


def class_defaults(model_type: str) -> Mapping[str, Any]:
    """Keys that decide sizes, with the defaults of the class for `model_type`; empty for a class that is not transformers'."""
    found: Mapping[str, Any] = read_packaged(_FILE)["classes"].get(model_type, {})
    return found or encoder_defaults(model_type)


def encoder_defaults(model_type: str) -> Mapping[str, Any]:
    """The same of a vision or audio encoder."""
    found: Mapping[str, Any] = read_packaged(_ENCODERS)["classes"].get(model_type, {})
    return found


def assumed_notes(assumed: Mapping[str, Any], where: str, whose: str) -> Iterator[str]:
    """What to say of values that a file leaves out. A flag that is off adds nothing, but a head that is not tied does."""
    decisive = [f"{key} {value}" for key, value in assumed.items() if value is not False or key == _TIED]
    if decisive:
        taken = ", ".join(decisive[:_MOST_NAMED])
        more = f" and {len(decisive) - _MOST_NAMED} more" if len(decisive) > _MOST_NAMED else ""
        yield f"not in {where}, so as {whose}: {taken}{more}"


_TIED = "tie_word_embeddings"


def release() -> str:
    """The release whose classes these are, such as "transformers 5.24.0"."""
    return str(read_packaged(_FILE)["release"])
