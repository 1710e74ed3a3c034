"""`TailLatencyModel`: percentiles of latency where requests queue for one of several replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaincc, gammaincinv, gammaln

from waferline.arrays import FloatArray
from waferline.predict.result import Field, Result
from waferline.workloads.scenario import real, whole

_MS = 1e-3
_SOURCES = tuple(
    {"title": title, "url": "", "date": title[-4:]}
    for title in (
        "Erlang, Solution of some problems in the theory of probabilities, 1917",
        "Allen, Probability, Statistics, and Queueing Theory, 1990",
        "Asmussen, Applied Probability and Queues, 2003",
    )
)
_NODES = 1000  # service times that stand for their distribution
_STEPS = 60  # halvings of the interval that holds a percentile: 1e-18 of it


class TailLatencyResult(Result):
    """What `TailLatencyModel.solve` answers. Every field broadcasts; latencies of an unstable queue are infinite."""

    p50_latency = Field("p50_latency_s", "Half of the requests are answered within this, waiting and service together")
    p99_latency = Field("p99_latency_s", "All but one in a hundred are")
    mean_latency = Field("mean_latency_s", "On average")
    mean_wait = Field("mean_wait_s", "Of that, waiting for a free replica")
    queue_utilization = Field("queue_utilization", "Share of time that a replica is busy; 1 and above is unstable")
    wait_probability = Field("wait_probability", "Share of requests that find every replica busy")
    is_stable = Field("is_stable", "True where the replicas keep up with arrivals")
    slo_violation_probability = Field(
        "slo_violation_probability", "Share of requests above `slo_ms`; NaN where none given"
    )


@dataclass(frozen=True, slots=True)
class TailLatencyModel:
    """M/M/c (Erlang 1917). Another spread of service times scales the mean wait as Allen and Cunneen do (Allen 1990) and
    thins its tail as Cramér and Lundberg's exponent says (Asmussen 2003)."""

    def solve(
        self,
        arrival_rate_qps: Any,
        service_latency_ms: Any,
        num_replicas: Any = 1,
        service_time_cv: Any = 1.0,
        *,
        slo_ms: Any = None,
    ) -> TailLatencyResult:
        """Latency of Poisson arrivals, `arrival_rate_qps` a second, served first come first served.

        service_latency_ms: mean service time. num_replicas: that serve one request each. service_time_cv: standard deviation
        of the service time over its mean (1: exponential, 0: constant). slo_ms: the latency that should hold.
        Arguments may be arrays. Raises: InvalidInputError.
        """
        rate = np.asarray(real("arrival_rate_qps", arrival_rate_qps))
        service = np.asarray(real("service_latency_ms", service_latency_ms, least=1e-9)) * _MS
        replicas = np.asarray(whole("num_replicas", num_replicas))
        cv = np.asarray(real("service_time_cv", service_time_cv))
        rate, service, replicas, cv = np.broadcast_arrays(rate, service, replicas, cv)
        busy = rate * service / replicas
        stable = busy < 1
        waits = np.where(stable, erlang_c(replicas, np.where(stable, rate * service, 0.0)), 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean_wait = np.where(stable, waits * (1 + cv**2) / 2 / (replicas / service - rate), np.inf)
            drain = np.where(stable, _decay(rate, service / replicas, cv), np.nan)
            late = np.where(stable, np.minimum(1.0, drain * mean_wait), 1.0)
        queue = _Queue(late, drain, service, cv)
        slo = np.nan if slo_ms is None else np.asarray(real("slo_ms", slo_ms)) * _MS
        values = {
            "p50_latency_s": np.where(stable, queue.percentile(0.50), np.inf),
            "p99_latency_s": np.where(stable, queue.percentile(0.99), np.inf),
            "mean_latency_s": mean_wait + service,
            "mean_wait_s": mean_wait,
            "queue_utilization": busy,
            "wait_probability": waits,
            "is_stable": stable,
            "slo_violation_probability": np.where(np.isnan(slo), np.nan, np.where(stable, queue.above(slo), 1.0)),
        }
        return TailLatencyResult(
            values=values,
            how="predicted",
            sources=_SOURCES,
            not_modelled=("batching: one replica serves one request at a time", "arrivals burstier than Poisson"),
        )


def erlang_c(servers: FloatArray, offered: FloatArray) -> FloatArray:
    """The share of arrivals that wait in M/M/c; `offered` is arrival rate times service time, below `servers`."""
    with np.errstate(divide="ignore"):
        log_last = servers * np.log(offered) - offered - gammaln(servers + 1)
    blocked = np.exp(log_last) / gammaincc(servers + 1, offered)  # Erlang B: the last state's share of a Poisson's head
    return np.asarray(blocked / (1 - offered / servers * (1 - blocked)))


def _decay(rate: FloatArray, service: FloatArray, cv: FloatArray) -> FloatArray:
    """The rate at which long waits thin out in M/G/1: the root of rate · (E exp(x S) - 1) = x, S a gamma (Cramér, Lundberg).

    Exponential service has 1/S - rate. Several replicas count as one that is as much faster.
    """
    spread = np.maximum(cv, 1e-3) ** 2
    low, high = np.zeros_like(service), (1 - 1e-12) / (service * spread)  # beyond it the expectation is infinite
    for _ in range(_STEPS):
        x = (low + high) / 2
        with np.errstate(over="ignore"):
            above = rate * np.expm1(-np.log1p(-x * service * spread) / spread) > x
        low, high = np.where(above, low, x), np.where(above, x, high)
    return np.asarray(low)


@dataclass(frozen=True, slots=True)
class _Queue:
    """A request's latency: with probability `waits` an exponential wait that ends at `drain`, then its service.

    The service is a gamma of the given spread; two moments are what the approximation knows of it.
    """

    waits: FloatArray
    drain: FloatArray
    service: FloatArray
    cv: FloatArray

    def above(self, seconds: Any) -> FloatArray:
        """The share of requests that take longer."""
        t = np.asarray(seconds, dtype=np.float64)[..., None]
        share = (np.arange(_NODES) + 0.5) / _NODES  # service times, each as likely as the next
        times = self.service[..., None] * _unit_service(self.cv, share)
        left = np.maximum(t - times, 0.0)
        late = np.where(times > t, 1.0, self.waits[..., None] * np.exp(-self.drain[..., None] * left))
        return np.asarray(late.mean(axis=-1))

    def percentile(self, share: float) -> FloatArray:
        """The latency that a `share` of the requests do not exceed."""
        with np.errstate(invalid="ignore"):
            low, high = np.zeros_like(self.service), 50 * self.service * (1 + self.cv) + 50 / self.drain
            for _ in range(_STEPS):
                middle = (low + high) / 2
                late = self.above(middle) > 1 - share
                low, high = np.where(late, middle, low), np.where(late, high, middle)
        return np.asarray(high)


def _unit_service(cv: FloatArray, share: FloatArray) -> FloatArray:
    """Quantiles of a service time of mean 1 and standard deviation `cv`."""
    spread = np.maximum(cv, 1e-3)[..., None] ** 2
    return np.asarray(gammaincinv(1 / spread, share) * spread)
