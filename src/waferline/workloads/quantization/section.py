"""Where a configuration says how its weights are quantised."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as shown

from waferline.errors import FileFormatError
from waferline.workloads.config_reader import ConfigReader

# Where a configuration keeps it: MLX's own key first, which is copied into the second.
SECTIONS = ("quantization", "quantization_config", "compression_config")


def quantisation_section(c: ConfigReader) -> ConfigReader | None:
    """The section of a configuration that says how its weights are quantised; None when it has none.

    Raises: FileFormatError for a section under a name that nobody reads: it would be a 16-bit answer in silence.
    """
    found = c.section(*SECTIONS)
    c.get(*SECTIONS)
    for key in c.names():
        if "quant" in key.lower() and key not in SECTIONS and isinstance(c.get(key), Mapping):
            raise FileFormatError(
                f"unknown key {shown(key)}", where=c.where, hint="did you mean 'quantization_config'?"
            )
    experts = c.get("expert_dtype")  # of the experts alone, and outside the section (DeepSeek-V4)
    if found is None or not c.get(*SECTIONS):
        return None
    return found if experts is None else found.merged({"expert_dtype": experts})


def wide_notes(c: ConfigReader) -> tuple[str, ...]:
    """What to say of a checkpoint that is not quantised: one in 32 bits is loaded in 16."""
    dtype = c.get("torch_dtype", "dtype")
    if isinstance(dtype, str) and dtype.removeprefix("torch.") in ("float32", "float"):
        return ("the checkpoint keeps 32 bits a weight: engines load it in 16; --precision fp32 keeps them",)
    return ()
