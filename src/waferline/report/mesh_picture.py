"""A mesh as a picture: a heat map over the cores, and for ring GEMMs the blocks that travel, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waferline.arrays import FloatArray
from waferline.errors import UnsupportedError
from waferline.files import write_text
from waferline.report.charts import check_ending, save
from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.report.charts.interactive import figure, page
from waferline.report.charts.theme import THEMES
from waferline.simulate.mesh.gemm.blocks import block_schedule
from waferline.simulate.mesh.result import MeshResult

MOVING_CORES, MOVING_STEPS = 32, 64  # larger meshes are still pictures, not films
MAP_SIDE = 400  # larger maps are averaged down to this


def write_picture(result: MeshResult, path: Path) -> None:
    """Draw `result` into `path`: .png or .svg, or .html, where blocks of a ring GEMM move under a slider.

    Raises: as `save`, and UnsupportedError for a result without anything to map.
    """
    maps = core_maps(result)
    if check_ending(path) != ".html":
        if maps is None:
            raise UnsupportedError("this result has no value per core to map", where="--plot", hint="--fidelity event")
        save(maps, path)
        return
    figures = [] if maps is None else [figure(maps)]
    if moves(result):
        figures.append(film(result))
    if not figures:
        raise UnsupportedError("this result has nothing to draw", where="--plot", hint="--fidelity event")
    write_text(path, page(title(result), figures))


def moves(result: MeshResult) -> bool:
    """Whether `film` has something to show: blocks that travel, on a mesh that a screen shows."""
    small = max(result.width, result.height) <= MOVING_CORES and result.steps <= MOVING_STEPS
    return result.algorithm in ("meshgemm", "cannon") and small


def title(result: MeshResult) -> str:
    """What was run, and how long it took."""
    return f"{result.operation}, {result.algorithm}, {result.width}x{result.height} cores, {result.cycles:,.0f} cycles"


def core_maps(result: MeshResult) -> Chart | None:
    """Values by core of a result as heat maps, side by side; None when it has none."""
    known = ((result.heat, result.heat_quantity), (result.finish_cycles, "cycle at which each core is done"))
    # where every core is done at once there is nothing to see
    panels = tuple(_map(values, quantity) for values, quantity in known if values is not None and np.ptp(values) > 0)
    columns = len(panels)
    return (
        Chart(title=title(result), panels=panels, columns=columns, width=620 * columns, height=560) if panels else None
    )


def _map(values: FloatArray, quantity: str) -> Panel:
    step = -(-max(values.shape) // MAP_SIDE)
    if step > 1:
        rows, columns = (size // step * step for size in values.shape)
        values = values[:rows, :columns].reshape(rows // step, step, columns // step, step).mean(axis=(1, 3))
    heat = Series(name=quantity, kind="heat", cells=values, step=step)
    return Panel(series=(heat,), title=quantity, x=Axis(title="x of core"), y=Axis(title="y of core", turned=True))


def film(result: MeshResult, *, dark: bool = False) -> dict[str, Any]:
    """Block of K each core multiplies at each step; one colour follows one block of A along its row."""
    held = [a for a, _ in block_schedule(result.algorithm, result.width, result.height)]
    text = result.width <= 16

    theme = THEMES[dark]

    def heat(blocks: NDArray[Any]) -> dict[str, Any]:
        shown = {"text": blocks.tolist(), "texttemplate": "%{text}"} if text else {}
        bar = {"title": {"text": "block of K"}}
        scale = {"zmin": 0, "zmax": result.steps - 1, "colorscale": "Viridis", "colorbar": bar}
        return {"type": "heatmap", "z": blocks.tolist(), **scale, **shown}

    play = {"label": "play", "method": "animate", "args": [None, {"frame": {"duration": 500, "redraw": True}}]}
    stop = {"label": "stop", "method": "animate", "args": [[None], {"mode": "immediate"}]}
    jump = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}
    steps = [{"label": str(n), "method": "animate", "args": [[str(n)], jump]} for n in range(len(held))]
    layout = {
        "title": {"text": "The block of K every core multiplies, step by step", "x": 0.01, "xanchor": "left"},
        "height": 700,
        "paper_bgcolor": theme.ground,
        "plot_bgcolor": theme.ground,
        "font": {"color": theme.ink},
        "xaxis": {"title": {"text": "x of core"}, "constrain": "domain"},
        "yaxis": {"title": {"text": "y of core"}, "autorange": "reversed", "scaleanchor": "x"},
        "updatemenus": [
            {
                "type": "buttons",
                "buttons": [play, stop],
                "direction": "left",
                "y": 1.12,
                "x": 0.75,
                "showactive": False,
                "active": -1,
                "bgcolor": theme.ground,
                "bordercolor": theme.quiet,
            }
        ],
        "sliders": [{"steps": steps, "currentvalue": {"prefix": "step "}}],
    }
    frames = [{"name": str(n), "data": [heat(blocks)]} for n, blocks in enumerate(held)]
    return {"data": [heat(held[0])], "layout": layout, "frames": frames}
