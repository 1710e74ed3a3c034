"""Fit what an engine adds to its operators: host time per step, layer and sequence, and how well its kernels run.

Rows: published static batches, closed loads and full loads of dense and mixture-of-experts models. For every row the
operators are timed once without any host; the constants then follow by robust least squares on log(predicted / measured),
shrunk towards the defaults. Groups of rows are left out by model to state the error.

Run: `python -m benchmarks.fit.engines [--shared PATH] [--write]`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from waferline.errors import WaferlineError
from waferline.evidence import ask_serving as door
from waferline.evidence.folder import evidence_files
from waferline.evidence.load import Closed, closed_load, full_load_tokens_per_s, habits
from waferline.evidence.metrics import READERS, Sizes, Times, is_rate
from waferline.evidence.names import model_spec
from waferline.evidence.request import Request
from waferline.evidence.rows import Row, read_rows
from waferline.evidence.scenario import request_of
from waferline.predict.engine import get_engine
from waferline.predict.inputs import as_device
from waferline.predict.phase import Phase
from waferline.predict.serving import _Case

FloatArray = npt.NDArray[np.float64]

# name -> (default, spread of the prior as a log ratio, or in seconds for the host terms)
PARAMETERS: Mapping[str, tuple[float, float]] = {
    "decode_scale": (1.0, 0.3),
    "prefill_scale": (1.0, 0.3),
    "collective_scale": (1.0, 0.5),
    "step_s": (1.0e-3, 1.0),
    "layer_s": (15e-6, 1.0),
    "sequence_s": (5e-6, 1.0),
}
NAMES = tuple(PARAMETERS)


@dataclass(frozen=True)
class Parts:
    """Host-free times of one pass: operators but collectives, collectives, and how many sequences and layers it has."""

    operators_s: FloatArray
    collectives_s: FloatArray
    sequences: FloatArray
    layers: float
    fill: FloatArray

    def seconds(self, p: Mapping[str, float], scale: str) -> FloatArray:
        host = p["step_s"] + p["layer_s"] * self.layers + p["sequence_s"] * self.sequences
        return self.fill * (p[scale] * self.operators_s + p["collective_scale"] * self.collectives_s + host)


@dataclass(frozen=True)
class Group:
    """Rows of one model, machine, engine and format, with the parts their metrics are made of."""

    rows: list[Row]
    requests: list[Request]
    sizes: Mapping[str, FloatArray]
    passes: Mapping[str, tuple[Parts, Parts]]
    running: FloatArray
    together: FloatArray
    measured: FloatArray

    def predict(self, p: Mapping[str, float]) -> FloatArray:
        first, z = self.requests[0], self.sizes
        asked = {r.answer for r in self.requests}
        if first.load == "static":
            pre, dec = self.passes["static"]
            t = Times(pre.seconds(p, "prefill_scale"), dec.seconds(p, "decode_scale"))
            read = {a: READERS[a](t, Sizes(z["batch"], z["input_tokens"], z["output_tokens"])) for a in asked}
        else:
            read = self._loaded(p)
        return np.array([read[r.answer][i] for i, r in enumerate(self.requests)])

    def _loaded(self, p: Mapping[str, float]) -> dict[str, FloatArray]:
        first, z, dp = self.requests[0], self.sizes, self.sizes["dp"]
        load = Closed(
            prefill_s=self.passes["alone"][0].seconds(p, "prefill_scale"),
            prompt_s=self.passes["prompts"][0].seconds(p, "prefill_scale") / self.together,
            step_s=self.passes["busy"][1].seconds(p, "decode_scale"),
            clients=np.maximum(np.minimum(z["batch"], 1e9) / dp, 1.0),
            running=self.running / dp,
            output_tokens=z["output_tokens"],
        )
        t = closed_load(load, habits(first.engine))
        rate = full_load_tokens_per_s(load) * dp
        if first.load == "closed":
            rate = load.clients * dp * z["output_tokens"] / (t.ttft_s + np.maximum(z["output_tokens"] - 1, 0) * t.itl_s)
        return {
            "ttft_s": t.ttft_s,
            "tpot_s": t.itl_s,
            "latency_s": t.ttft_s + np.maximum(z["output_tokens"] - 1, 0) * t.itl_s,
            "output_tokens_per_s": rate,
            "total_tokens_per_s": rate * (z["input_tokens"] + z["output_tokens"]) / z["output_tokens"],
            "samples_per_s": rate / z["output_tokens"],
        }


def _parts(phase: Phase, sequences: FloatArray, layers: float, fill: FloatArray) -> Parts:
    n = sequences.shape
    collectives = sum(
        (t.operator.count * t.expected_s for t in phase.timed if t.operator.kind == "collective"), np.zeros(())
    )
    operators = phase.time_s - collectives
    full = lambda x: np.broadcast_to(np.asarray(x, dtype=float), n)  # noqa: E731
    return Parts(full(operators), full(collectives), sequences, layers, full(fill))


def _passes(case: _Case, first: Request, sizes: Mapping[str, FloatArray], batch: FloatArray) -> tuple[Parts, Parts]:
    a = {
        "batch_size": np.maximum(batch, 1.0),
        "seq_len": np.ceil(sizes["input_tokens"]),
        "output_len": np.ceil(sizes["output_tokens"]),
        **{k: sizes[k] for k in ("tp", "pp", "ep", "dp")},
    }
    pre, dec, parallel = case.phases(first.precision, a)
    layers = float(sum(b.count for b in case.model.blocks))
    waves = np.minimum(np.ceil(a["batch_size"] / parallel.dp), parallel.pp)
    fill = (parallel.pp + waves - 1) / parallel.pp
    local = np.ceil(a["batch_size"] / (parallel.dp * parallel.pp))
    return _parts(pre, local, layers, fill), _parts(dec, local, layers, np.ones_like(local))


def build_group(rows: list[Row], requests: list[Request]) -> Group | None:
    """The parts of one group; None where the model refuses it."""
    first, sizes = requests[0], door._sizes(requests)
    engine = replace(get_engine(first.engine), step_s=0.0, layer_s=0.0)
    try:
        case = _Case(model_spec(first.model), as_device(first.hardware), engine, first.kv, None)
        dp = sizes["dp"]
        running = together = np.ones_like(dp)
        if first.load == "static":
            passes = {"static": _passes(case, first, sizes, sizes["batch"])}
        else:
            parts = door.served_parts(requests)
            running = parts.load["value"].running * dp
            together = np.maximum(np.floor(door._FULL_PREFILL_TOKENS / sizes["input_tokens"]), 1.0)
            together = np.minimum(together, np.ceil(running / dp))
            passes = {
                "alone": _passes(case, first, sizes, dp),
                "prompts": _passes(case, first, sizes, together * dp),
                "busy": _passes(case, first, sizes, running),
            }
    except WaferlineError:
        return None
    measured = np.array([r.value for r in rows])
    return Group(rows, requests, sizes, passes, running, together, measured)


def load_groups(rows: Sequence[Row]) -> list[Group]:
    """Groups of all rows that can be predicted, are not suspect and were measured."""
    members: dict[tuple[object, ...], list[tuple[Row, Request]]] = defaultdict(list)
    for row in rows:
        request = request_of(row)
        if isinstance(request, Request) and request.door == "serving" and not row.suspect and row.kind == "measured":
            layout = (request.tp, request.pp, request.ep, request.dp)
            members[(*request.group, layout)].append((row, request))
    groups = [build_group([r for r, _ in m], [q for _, q in m]) for m in members.values()]
    return [g for g in groups if g is not None]


def log_errors(groups: Sequence[Group], p: Mapping[str, float]) -> FloatArray:
    """log(predicted time / measured time) of every row: positive is too slow."""
    out = []
    for g in groups:
        ratio = np.log(np.maximum(g.predict(p), 1e-12) / g.measured)
        sign = np.array([-1.0 if is_rate(r.answer) or r.answer.endswith("per_s") else 1.0 for r in g.requests])
        out.append(ratio * sign)
    return np.concatenate(out)


def fit(groups: Sequence[Group], weights: Mapping[str, float] | None = None) -> dict[str, float]:
    """Constants of one engine family: robust least squares of the log errors, shrunk towards the defaults."""

    def unpack(x: FloatArray) -> dict[str, float]:
        return {n: PARAMETERS[n][0] * float(np.exp(v)) for n, v in zip(NAMES, x, strict=True)}

    spreads = np.array([PARAMETERS[n][1] for n in NAMES])
    sizes = np.concatenate([np.full(len(g.rows), 1.0 / np.sqrt(len(g.rows))) for g in groups])
    sizes /= sizes.mean()

    def residuals(x: FloatArray) -> FloatArray:
        e = np.clip(log_errors(groups, unpack(x)), -3, 3)
        return np.concatenate([np.sqrt(sizes) * np.sqrt(2 * (np.sqrt(1 + (e / 0.1) ** 2) - 1)), x / spreads])

    found = least_squares(residuals, np.zeros(len(NAMES)), method="trf", max_nfev=40)
    return unpack(found.x)


def family(request: Request) -> tuple[str, str]:
    """Engine and vendor: the rows that share constants."""
    return request.engine, as_device(request.hardware).vendor.lower()


def _report(name: str, e: FloatArray) -> str:
    a = np.abs(np.expm1(e))
    return f"{name}: n={len(e)} median {100 * np.median(a):.1f}% p90 {100 * np.quantile(a, 0.9):.1f}% bias {np.median(e):+.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared")
    arguments = parser.parse_args()
    rows = [r for f in evidence_files(arguments.shared) if "llm-inference" in f.name for r in read_rows(f)]
    groups = load_groups(rows)
    by_family: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for g in groups:
        by_family[family(g.requests[0])].append(g)
    for key, members in sorted(by_family.items(), key=lambda kv: -sum(len(g.rows) for g in kv[1])):
        n = sum(len(g.rows) for g in members)
        if n < 20:
            continue
        default = {k: v[0] for k, v in PARAMETERS.items()}
        before = log_errors(members, default)
        p = fit(members)
        after = log_errors(members, p)
        held = np.concatenate(_leave_one_out(members)) if len({g.requests[0].model for g in members}) > 1 else after
        print(key, {k: float(f"{v:.3g}") for k, v in p.items()})
        for label, e in (("before", before), ("fitted", after), ("left out by model", held)):
            print("   ", _report(label, e))


def _leave_one_out(members: Sequence[Group]) -> list[FloatArray]:
    out = []
    for model in sorted({g.requests[0].model for g in members}):
        rest = [g for g in members if g.requests[0].model != model]
        out.append(log_errors([g for g in members if g.requests[0].model == model], fit(rest)))
    return out


if __name__ == "__main__":
    main()
