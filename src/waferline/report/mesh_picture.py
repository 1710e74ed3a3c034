"""A mesh as a picture: a heat map over the cores, and for ring GEMMs the blocks that travel, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError, UnsupportedError
from waferline.report.png import heat_map_png
from waferline.simulate.mesh.gemm.blocks import block_schedule
from waferline.simulate.mesh.result import MeshResult

MOVING_CORES, MOVING_STEPS = 32, 64  # larger meshes are still pictures, not films
MAP_SIDE = 400  # larger maps are averaged down to this for HTML


def write_picture(result: MeshResult, path: Path) -> None:
    """Draw `result` into `path`, by its ending: .html (interactive, with a step slider) or .png.

    Raises:
        InvalidInputError: another ending, or a folder that is not there.
        UnsupportedError: a result without a value per core.
    """
    ending = path.suffix.lower()
    if ending not in (".html", ".png"):
        raise InvalidInputError(f"'{path.name}' is neither .html nor .png", where="--plot")
    if not path.resolve().parent.is_dir():
        raise InvalidInputError(f"folder '{path.parent}' does not exist", where="--plot")
    title = f"{result.operation}, {result.algorithm}, {result.width}x{result.height} cores, {result.cycles:,.0f} cycles"
    if ending == ".png":
        if result.heat is None:
            raise UnsupportedError("this result has no value per core to map", where="--plot", hint="--fidelity event")
        heat_map_png(result.heat, title, result.heat_quantity, path)
        return
    parts = [figure.to_html(full_html=False, include_plotlyjs=i == 0) for i, figure in enumerate(_figures(result))]
    head = f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{title}</title></head>"
    path.write_text(f"{head}<body style='font-family:sans-serif;max-width:60rem;margin:auto'><h1>{title}</h1>"
                    + "".join(parts) + "</body></html>", encoding="utf-8")  # fmt: skip


def _figures(result: MeshResult) -> list[go.Figure]:
    figures = [] if result.heat is None else [_map(result.heat, result.heat_quantity)]
    if result.finish_cycles is not None:
        figures.append(_map(result.finish_cycles, "cycle at which each core is done"))
    if result.trace and "name" in result.trace[0]:
        figures.append(_parts(result))
    moving = result.algorithm in ("meshgemm", "cannon") and max(result.width, result.height) <= MOVING_CORES
    if moving and result.steps <= MOVING_STEPS:
        figures.append(_film(result))
    if not figures:
        raise UnsupportedError("this result has nothing to draw", where="--plot", hint="--fidelity event")
    return figures


def _map(values: FloatArray, quantity: str) -> go.Figure:
    step = -(-max(values.shape) // MAP_SIDE)
    if step > 1:
        rows, columns = (size // step * step for size in values.shape)
        values = values[:rows, :columns].reshape(rows // step, step, columns // step, step).mean(axis=(1, 3))
    heat = go.Heatmap(z=values, x0=0, dx=step, y0=0, dy=step, colorscale="Viridis", colorbar={"title": quantity})
    figure = go.Figure(heat, layout={"title": quantity, "height": 620})
    figure.update_yaxes(autorange="reversed", scaleanchor="x", title="y")
    figure.update_xaxes(title="x", constrain="domain")
    return figure


def _parts(result: MeshResult) -> go.Figure:
    names = [f"{row['step']} {row['name']}" for row in result.trace]
    bars = [
        go.Bar(y=names, x=[row[f"{kind}_cycles"] for row in result.trace], name=kind, orientation="h")
        for kind in ("compute", "communication")
    ]
    figure = go.Figure(bars, layout={"title": "One layer, part by part (cycles)", "barmode": "stack", "height": 520})
    figure.update_yaxes(autorange="reversed")
    return figure


def _film(result: MeshResult) -> go.Figure:
    """Block of K each core multiplies at each step; one colour follows one block of A along its row."""
    held = [a for a, _ in block_schedule(result.algorithm, result.width, result.height)]
    text = result.width <= 16

    def heat(blocks: NDArray[np.int32]) -> go.Heatmap:
        return go.Heatmap(z=blocks, zmin=0, zmax=result.steps - 1, colorscale="Turbo",
                          text=blocks if text else None, texttemplate="%{text}" if text else None,
                          colorbar={"title": "block of K"})  # fmt: skip

    frames = [go.Frame(data=[heat(blocks)], name=str(step)) for step, blocks in enumerate(held)]
    figure = go.Figure(heat(held[0]), frames=frames)
    play = {"label": "play", "method": "animate", "args": [None, {"frame": {"duration": 500, "redraw": True}}]}
    stop = {"label": "stop", "method": "animate", "args": [[None], {"mode": "immediate"}]}
    jump = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}
    slider = [{"label": f.name, "method": "animate", "args": [[f.name], jump]} for f in frames]
    figure.update_layout(
        title="The block of K every core multiplies, step by step",
        height=700,
        updatemenus=[{"type": "buttons", "buttons": [play, stop], "direction": "left", "y": 1.12, "x": 0.75}],
        sliders=[{"steps": slider, "currentvalue": {"prefix": "step "}}],
    )
    figure.update_yaxes(autorange="reversed", scaleanchor="x", title="y")
    figure.update_xaxes(title="x", constrain="domain")
    return figure
