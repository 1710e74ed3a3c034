"""Fitted constants of one transformer layer on a mesh, by parameter set, from `catalog/mesh_fits.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class DecodeFit:
    row_cycles: float
    layer_cycles: float


@dataclass(frozen=True, slots=True)
class PrefillFit:
    map_base_cycles: float
    map_element_cycles: float
    step_cycles: float


@cache
def decode_fit(parameter_set: str) -> DecodeFit:
    """Fitted layer constants of a parameter set.

    Raises: UnsupportedError when nobody has timed a decode layer in that cohort.
    """
    entry = read_packaged("mesh_fits.yaml").get(parameter_set)
    if not entry or not entry["decode"]:
        raise UnsupportedError(
            f"mesh parameter set '{parameter_set}' has no measured decode layer", hint=_with_fit("decode")
        )
    return DecodeFit(float(entry["decode"]["row_cycles"]), float(entry["decode"]["layer_cycles"]))


@cache
def decode_alternatives(parameter_set: str) -> tuple[DecodeFit, ...]:
    """Other constants that the calibration rows of a set allow, where they leave a choice."""
    entry = read_packaged("mesh_fits.yaml")[parameter_set]["decode"]
    return tuple(DecodeFit(float(x["row_cycles"]), float(x["layer_cycles"])) for x in entry["alternatives"])


def left_out_error(parameter_set: str, phase: str) -> float:
    """Worst relative error of a calibration row predicted from the others; NaN where nothing was calibrated."""
    entry = read_packaged("mesh_fits.yaml").get(parameter_set)
    return float(entry[phase]["left_out_error"]) if entry and entry[phase] else float("nan")


@cache
def prefill_fit(parameter_set: str) -> PrefillFit | None:
    """Fitted GEMM constants of a parameter set; None when nobody has timed a prefill in that cohort."""
    entry = read_packaged("mesh_fits.yaml").get(parameter_set)
    if not entry or not entry["prefill"]:
        return None
    figures = entry["prefill"]
    return PrefillFit(
        float(figures["map_base_cycles"]), float(figures["map_element_cycles"]), float(figures["step_cycles"])
    )


@cache
def fitted_grids(parameter_set: str) -> tuple[int, int]:
    """Smallest and largest grid side among the layers that the decode constants were fitted on."""
    low, high = read_packaged("mesh_fits.yaml")[parameter_set]["decode"]["grids"]
    return int(low), int(high)


def _with_fit(phase: str) -> str:
    names = [name for name, entry in read_packaged("mesh_fits.yaml").items() if entry[phase]]
    return f"sets that have one: {', '.join(names)}"
