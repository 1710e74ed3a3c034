"""Every model under the module that lessons import them from: `from waferline.solvers import ServingModel`."""

from __future__ import annotations

from typing import Any

import waferline


def __getattr__(name: str) -> Any:
    if not name.endswith(("Model", "Optimizer", "Solver")):
        raise AttributeError(f"module 'waferline.solvers' has no attribute '{name}'")
    return getattr(waferline, name)


def __dir__() -> list[str]:
    return [name for name in waferline.__all__ if name.endswith(("Model", "Optimizer", "Solver"))]
