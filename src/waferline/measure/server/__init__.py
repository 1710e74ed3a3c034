"""Live OpenAI-compatible servers: TTFT, ITL, TPOT and throughput under closed and open loops, errors never hidden."""

from __future__ import annotations

from waferline.measure.server.load import Load, loads
from waferline.measure.server.run import ServerResult, measure_server
from waferline.measure.server.stream import Target

__all__ = ["Load", "ServerResult", "Target", "loads", "measure_server"]
