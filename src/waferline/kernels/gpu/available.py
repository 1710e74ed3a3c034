"""Whether a GPU can be used here, and if not, why: the reason a refusal gives."""

from __future__ import annotations

import importlib.util
from functools import cache


@cache
def unavailable() -> str | None:
    """Why no GPU can be used here; None when one can."""
    missing = [package for package in ("torch", "triton") if importlib.util.find_spec(package) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (pip install 'waferline[gpu]')"
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no CUDA or ROCm device"
    return None


def free_device_bytes() -> int:
    """Memory free on the current GPU."""
    import torch

    return int(torch.cuda.mem_get_info()[0])
