"""A simulated run over time: latencies of requests above, running and waiting ones and the cache below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from waferline.errors import FileFormatError
from waferline.files import write_text
from waferline.traffic.serving_run import ServingRun

_BLUE, _GREEN, _ORANGE = "#0072B2", "#009E73", "#E69F00"  # Okabe and Ito (2008): told apart with any colour vision
_FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_MOST_DOTS = 4000


def draw_serving(outcome: ServingRun, path: str | Path) -> None:
    """Write the picture as one HTML file that needs nothing else. Raises: FileFormatError for another kind of file."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise FileFormatError("a run is drawn as .html", where=str(path))
    write_text(path, str(figure_of(outcome).to_html(include_plotlyjs=True, full_html=True)))


def figure_of(outcome: ServingRun) -> go.Figure:
    """Three rows that share the time: latencies, requests in the server, KV cache."""
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=[0.4, 0.35, 0.25])
    requests, samples = outcome.per_request, outcome.samples
    some = np.unique(np.linspace(0, len(requests["arrival_s"]) - 1, _MOST_DOTS).astype(int))
    arrival = requests["arrival_s"][some]
    for name, key, colour in (("TTFT", "ttft_s", _BLUE), ("whole request", "e2e_s", _ORANGE)):
        dots = {"color": colour, "size": 4, "opacity": 0.5}
        figure.add_scattergl(x=arrival, y=requests[key][some], name=name, mode="markers", marker=dots, row=1, col=1)
    time = samples["start_s"]
    for name, key, colour in (("running", "running", _GREEN), ("waiting", "waiting", _ORANGE)):
        line = {"color": colour, "width": 1.5, "shape": "hv"}
        figure.add_scatter(x=time, y=samples[key], name=name, mode="lines", line=line, row=2, col=1)
    figure.add_scatter(
        x=time,
        y=100.0 * samples["memory_share"],
        name="KV cache used",
        mode="lines",
        line={"color": _BLUE, "width": 1.5},
        fill="tozeroy",
        fillcolor="rgba(0, 114, 178, 0.15)",
        row=3,
        col=1,
    )
    figure.update_yaxes(title_text="seconds", type="log", row=1, col=1)
    figure.update_yaxes(title_text="requests", rangemode="tozero", row=2, col=1)
    figure.update_yaxes(title_text="cache, %", range=[0, 100], row=3, col=1)
    figure.update_xaxes(title_text="seconds since the first request", row=3, col=1)
    about = outcome.answer.result.about
    figure.update_layout(
        title={
            "text": f"{outcome.answer.model.title} on {outcome.answer.device.title}, {about['engine']}: {outcome.verdict}"
        },
        template="plotly_white",
        font={"family": _FONT, "size": 13},
        height=820,
        margin={"l": 72, "r": 24, "t": 88, "b": 56},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    return figure
