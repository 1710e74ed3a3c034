"""GPU kernels against CPU references: on a GPU where there is one, else in Triton's interpreter, else skipped with why."""

from __future__ import annotations

import importlib.util
import os

import pytest

MISSING = [p for p in ("torch", "triton") if importlib.util.find_spec(p) is None]
if not MISSING:
    import torch

    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported: right answers, no speed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if MISSING and item.get_closest_marker("needs_triton"):
            item.add_marker(pytest.mark.skip(reason=f"{' and '.join(MISSING)} not installed"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_triton: runs a Triton kernel")


@pytest.fixture
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
