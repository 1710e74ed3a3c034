"""What an answer holds in the memory of each device, against what the engine may use."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from waferline.errors import UnsupportedError
from waferline.predict.run import Answer
from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.text import metric

_PARTS = (
    ("weights", "device_weights_bytes"),
    ("KV cache", "device_kv_bytes"),
    ("activations", "device_activation_bytes"),
    ("workspace", "device_workspace_bytes"),
)


def memory_chart(answer: Answer) -> Chart:
    """One bar of parts, and the two marks that it may not pass. Raises: UnsupportedError for an answer without such parts."""
    result = answer.result
    known = [(name, float(np.asarray(result[key]).flat[0])) for name, key in _PARTS if key in result]
    if not known:
        raise UnsupportedError(f"{answer.kind} names no parts of its memory", where="chart")
    starts = [0.0, *accumulate(size for _, size in known)]
    bars = [
        Series(
            name=name,
            kind="bars",
            x=(size,),
            y=("memory",),
            base=(start,),
            colour=n,
            text=(f"{name} {metric(size, 'B')}",),
        )
        for n, ((name, size), start) in enumerate(zip(known, starts, strict=False))
    ]
    marks = [
        Series(
            name=name, kind="ticks", x=(at,), y=("memory",), colour=colour, size=70, text=(f"{name} {metric(at, 'B')}",)
        )
        for name, key, colour in (
            ("usable by the engine", "usable_bytes", "ink"),
            ("capacity", "capacity_bytes", "quiet"),
        )
        if key in result
        for at in (float(np.asarray(result[key]).flat[0]),)
    ]
    panel = Panel(series=(*bars, *marks), x=Axis(unit="B"), y=Axis(names=("memory",)))
    fits = "it fits" if answer.fits else "it does not fit"
    return Chart(title=f"Memory of each device: {fits}", panels=(panel,), height=210)
