"""A simulated run over time: latencies of requests above; requests in the server, its cache and its replicas below."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.report.charts.chart import Axis, Chart
from waferline.report.charts.timeline import Lane, Track, timeline
from waferline.traffic.serving_run import ServingRun

_WINDOWS = 40  # of the run, each with percentiles of its own
_FEWEST = 5  # requests of a window with a percentile


def serving_chart(outcome: ServingRun) -> Chart:
    """Lanes over the time since the first request."""
    requests, samples = outcome.per_request, outcome.samples
    time, values = samples["start_s"], outcome.values
    lanes = [
        Lane(
            title="time to first token of requests by arrival",
            tracks=_latencies(requests),
            axis=Axis(unit="s", log=True),
        ),
        Lane(
            title="requests in the server",
            tracks=(
                Track(name="running", time_s=time.tolist(), values=samples["running"].tolist(), colour=2),
                Track(name="waiting", time_s=time.tolist(), values=samples["waiting"].tolist(), colour=1),
            ),
            axis=Axis(title="requests", low=0.0),
        ),
        Lane(
            title="KV cache that requests hold",
            tracks=(
                Track(
                    name="",
                    time_s=time.tolist(),
                    values=samples["memory_share"].tolist(),
                    kind="area",
                    colour=0,
                ),
            ),
            axis=Axis(low=0.0, high=1.0, share=True),
        ),
    ]
    if samples["replicas"].max(initial=1.0) > 1.0:
        up = (Track(name="", time_s=time.tolist(), values=samples["replicas"].tolist(), colour=4),)
        lanes.append(Lane(title="replicas", tracks=up, axis=Axis(title="replicas", low=0.0)))
    about = outcome.answer.result.about
    devices = f" × {values['devices']}" if values["devices"] > 1 else ""
    title = (
        f"{outcome.answer.model.title} on {outcome.answer.device.title}{devices}, {about['engine']}: {outcome.verdict}"
    )
    note = f"{values['requests']:,} requests, {values['output_tokens_per_s']:,.0f} output tokens/s, {outcome.how}"
    return timeline(title, lanes, x="since the first request", note=note)


def _latencies(requests: Mapping[str, AnyArray]) -> tuple[Track, ...]:
    """Every request as a point, and the median and 99th percentile of windows of the run."""
    arrival, ttft = requests["arrival_s"], requests["ttft_s"]
    order = np.argsort(arrival, kind="stable")
    points = Track(
        name="a request", time_s=arrival[order].tolist(), values=ttft[order].tolist(), kind="points", colour=0
    )
    edges = np.linspace(arrival.min(), arrival.max(), _WINDOWS + 1)
    window = np.clip(np.searchsorted(edges, arrival, "right") - 1, 0, _WINDOWS - 1)
    middles: list[float] = []
    found: list[FloatArray] = []
    for i in range(_WINDOWS):
        if np.count_nonzero(window == i) >= _FEWEST:
            middles.append(float(edges[i] + edges[i + 1]) / 2.0)
            found.append(np.percentile(ttft[window == i], (50, 99)))
    if len(middles) < 2:
        return (points,)
    lines = (
        Track(name=name, time_s=middles, values=[float(f[n]) for f in found], kind="line", colour=colour)
        for n, (name, colour) in enumerate((("p50", 2), ("p99", 1)))
    )
    return (points, *lines)
