"""Packages of extras, imported when a file needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from waferline.errors import UnsupportedError


def needs(module: str, extra: str) -> Any:
    """The module. Raises: UnsupportedError that says what to install."""
    try:
        return import_module(module)
    except ImportError:
        raise UnsupportedError(
            f"the package '{module}' is not installed", hint=f"pip install 'waferline[{extra}]'"
        ) from None
