"""A simulated server over time: latencies of requests, requests in the server, and the KV cache."""

from __future__ import annotations

from waferline.report.charts.chart import Axis, Chart
from waferline.report.charts.timeline import Lane, Track, timeline
from waferline.traffic.serving_run import ServingRun


def serving_chart(outcome: ServingRun) -> Chart:
    """What every request saw above; running and waiting ones and the share of the cache below, over the same time."""
    requests, samples = outcome.per_request, outcome.samples
    arrival, time = requests["arrival_s"], samples["start_s"]
    seen = (("TTFT", "ttft_s", 0), ("whole request", "e2e_s", 1))
    latencies = tuple(Track(name=n, time_s=arrival, values=requests[k], kind="points", colour=c) for n, k, c in seen)
    inside = (("running", "running", 2), ("waiting", "waiting", 3))
    queue = tuple(Track(name=n, time_s=time, values=samples[k], colour=c) for n, k, c in inside)
    cache = Track(name="KV cache used", time_s=time, values=samples["memory_share"], kind="area", colour=4)
    lanes = (
        Lane(title="latency by arrival", tracks=latencies, axis=Axis(unit="s", log=True)),
        Lane(title="requests in the server", tracks=queue, axis=Axis()),
        Lane(title="KV cache", tracks=(cache,), axis=Axis(share=True, low=0.0, high=1.0)),
    )
    about, answer = outcome.answer.result.about, outcome.answer
    title = f"{answer.model.title} on {answer.device.title}, {about['engine']}: {outcome.verdict}"
    return timeline(title, lanes, x="since the first request")
