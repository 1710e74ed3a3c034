"""Reading YAML: packaged facts quickly, user files with an error that says what and where."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from waferline.catalog import ROOT
from waferline.errors import FileFormatError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster where it is built in


class _ScientificLoader(_Loader):
    """YAML 1.2 floats: `5e6` is a number, which YAML 1.1 would read as text."""


_ScientificLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def parse(text: str, where: str) -> Any:
    """YAML text as Python data.

    Raises: FileFormatError naming the line and column of the first mistake.
    """
    try:
        return yaml.load(text, Loader=_ScientificLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise FileFormatError(
            f"malformed YAML{place}: {getattr(error, 'problem', None) or 'cannot be read'}", where=where
        ) from None


@cache
def read_packaged(name: str) -> Any:
    """A file of this folder, read once. The caller must not change what it gets."""
    path = ROOT / name
    return parse(path.read_text(encoding="utf-8"), str(name))


def read_file(path: str | Path) -> Any:
    """A user's YAML file.

    Raises: FileFormatError when it cannot be read or is not YAML.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise FileFormatError(f"cannot be read: {reason}", where=str(path)) from None
    return parse(text, str(path))
