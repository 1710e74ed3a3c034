"""What a configuration class of transformers assumes where a file is silent: one sourced table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waferline.catalog.yaml_file import read_packaged

_FILE = "model_defaults.yaml"


def class_defaults(model_type: str) -> Mapping[str, Any]:
    """Keys that decide sizes, with the defaults of the class for `model_type`; empty for a class that is not transformers'."""
    found: Mapping[str, Any] = read_packaged(_FILE)["classes"].get(model_type, {})
    return found


def release() -> str:
    """The release whose classes these are, such as "transformers 5.24.0"."""
    return str(read_packaged(_FILE)["release"])
