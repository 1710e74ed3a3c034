"""Facts as data: packaged ones from the compiled index, users' files from YAML or JSON."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from waferline.catalog.index import compiled
from waferline.catalog.text_file import MAX_JSON_BYTES, parse_json, parse_yaml, read_text
from waferline.errors import FileFormatError


@cache
def read_packaged(name: str) -> Any:
    """A YAML file of this folder (`engines.yaml`, `models/gpt2.yaml`), read once. The caller must not change what it gets.

    Raises: FileFormatError when there is no such file.
    """
    folder, _, file = name.rpartition("/")
    text = compiled(folder).get(file.removesuffix(".yaml"))
    if text is None:
        raise FileFormatError("no such packaged facts", where=name)
    return json.loads(text)


def packaged_names(folder: str) -> list[str]:
    """The names, without ending, of the packaged files of a folder, sorted."""
    return list(compiled(folder))


def read_file(path: str | Path) -> Any:
    """A user's YAML file, or a JSON file where its name says so.

    Raises: FileFormatError when it cannot be read or is neither.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        return parse_json(read_text(path, MAX_JSON_BYTES), str(path))
    return parse_yaml(read_text(path), str(path))
