"""A mesh as a picture: a heat map over the cores, and for ring GEMMs the blocks that travel, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.colors as go_colors
import plotly.graph_objects as go
from numpy.typing import NDArray

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError, UnsupportedError
from waferline.files import replacing, write_text
from waferline.simulate.mesh.gemm.blocks import block_schedule
from waferline.simulate.mesh.result import MeshResult

MOVING_CORES, MOVING_STEPS = 32, 64  # larger meshes are still pictures, not films
PNG_SIDE = 640  # pixels, at least one a core
MAP_SIDE = 400  # larger maps are averaged down to this for HTML


def check_picture(path: Path) -> str:
    """The kind of picture that `path` ends in, before anything is run for it.

    Raises:
        InvalidInputError: neither .html nor .png.
    """
    ending = path.suffix.lower()
    if ending not in (".html", ".png"):
        raise InvalidInputError(f"'{path.name}' is neither .html nor .png", where="--plot")
    return ending


def write_picture(result: MeshResult, path: Path) -> None:
    """Draw `result` into `path`, by its ending: .html (interactive, with a step slider) or .png. All of the file or nothing.

    Raises:
        InvalidInputError: another ending.
        FileFormatError: a path that cannot be written.
        UnsupportedError: a result without a value per core, or a PNG without Pillow.
    """
    ending = check_picture(path)
    title = f"{result.operation}, {result.algorithm}, {result.width}x{result.height} cores, {result.cycles:,.0f} cycles"
    if ending == ".png":
        if result.heat is None:
            raise UnsupportedError("this result has no value per core to map", where="--plot", hint="--fidelity event")
        _write_png(result.heat, title, result.heat_quantity, path)
        return
    parts = [figure.to_html(full_html=False, include_plotlyjs=i == 0) for i, figure in enumerate(_figures(result))]
    head = f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{title}</title></head>"
    body = f"<body style='font-family:sans-serif;max-width:60rem;margin:auto'><h1>{title}</h1>{''.join(parts)}</body>"
    write_text(path, f"{head}{body}</html>")


def _write_png(values: FloatArray, title: str, quantity: str, path: Path) -> None:
    """`values` (rows, columns) as a coloured map with its scale; each core is a square of whole pixels."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ModuleNotFoundError:
        raise UnsupportedError(
            "a PNG needs Pillow", where="--plot", hint="pip install 'waferline[png]', or an .html file"
        ) from None

    rows, columns = values.shape
    cell = max(1, PNG_SIDE // max(rows, columns))
    low, high = float(values.min()), float(values.max())
    shade = (values - low) / (high - low) if high > low else np.zeros_like(values)
    body = Image.fromarray(_viridis(shade)).resize((columns * cell, rows * cell), Image.Resampling.NEAREST)
    font, margin, top = ImageFont.load_default(16), 40, 80
    right = margin + body.width + 24
    width = max(right + 150, margin + round(max(font.getlength(text) for text in (title, quantity))) + margin)
    image = Image.new("RGB", (width, top + body.height + 60), "white")
    draw = ImageDraw.Draw(image)
    image.paste(body, (margin, top))
    image.paste(Image.fromarray(_viridis(np.linspace(1, 0, 256)[:, None])).resize((18, body.height)), (right, top))
    for text, y in (
        (title, 14),
        (quantity, 40),
        (f"x: 0 to {columns - 1}, y: 0 to {rows - 1} downwards", top + body.height + 14),
    ):
        draw.text((margin, y), text, fill="black", font=font)
    for part in (0.0, 0.5, 1.0):
        value = low + (high - low) * part
        text = f"{value:,.0f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"
        draw.text((right + 26, top + (body.height - 16) * (1 - part)), text, fill="black", font=font)
    with replacing(path) as own:
        image.save(own, "PNG")


def _viridis(shade: FloatArray) -> NDArray[np.uint8]:
    """Shares of the scale as colours, (..., red green blue)."""
    scale = np.array([go_colors.hex_to_rgb(stop) for stop in go_colors.sequential.Viridis], float)
    place = np.clip(shade, 0, 1) * (len(scale) - 1)
    return (
        np.stack([np.interp(place, np.arange(len(scale)), channel) for channel in scale.T], -1).round().astype(np.uint8)
    )


def _figures(result: MeshResult) -> list[go.Figure]:
    figures = [] if result.heat is None else [_map(result.heat, result.heat_quantity)]
    if result.finish_cycles is not None:
        figures.append(_map(result.finish_cycles, "cycle at which each core is done"))
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
