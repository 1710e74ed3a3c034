"""Inference-X's Q4_K on a wafer: the right codec, the wrong one, and claims that were never run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import AIM, absolute, at_least, at_most

_EXACT = absolute(0.0, "exact")
_GOOD = 0.99  # correlation of weights with their four-bit form


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts

    d = facts("inference-x")
    yield from _codec(d["decoder_correlation"])
    yield from _claims(d)
    yield from _mesh(d["mesh"])
    why = "the published kernel leaves attention as a comment and shows no run"
    yield Check("tokens per second of the kernel", "tok/s", 2400, None, why=why)


def _codec(threshold: float) -> Iterator[Check]:
    """One matrix of small Gaussian weights through the right codec and through the published reading of its bytes."""
    import numpy as np

    from waferline.formats.codec import decode, encode
    from waferline.techniques.q4k_misread import BLOCK_BYTES, decode_misread

    weights = np.random.default_rng(0).normal(0, 0.02, (64, 256)).astype(np.float32)
    data = encode(weights, "q4_k")
    right = decode(data, "q4_k", weights.shape)
    wrong = decode_misread(np.asarray(data).reshape(-1, BLOCK_BYTES))
    for name, decoded, limit in (
        ("ggml's reading", right, at_least(_GOOD, AIM)),
        ("the published reading", wrong, at_most(threshold, AIM)),
    ):
        correlation = float(np.corrcoef(weights.ravel(), decoded.ravel())[0, 1])
        yield Check(f"correlation of weights, {name}", "", None, correlation, limit, how="measured")


def _claims(d: Mapping[str, Any]) -> Iterator[Check]:
    from waferline.evidence.claims.judge import LATENCY, judge_claims
    from waferline.evidence.claims.laws import CAPACITY
    from waferline.evidence.claims.sentence import claims_of

    one, _, many = judge_claims(claims_of(d["claims"]))
    yield Check("2400 tok/s at batch 1 called latency-bound", "", 1.0, float(one.law == LATENCY), _EXACT)
    yield Check("and not infeasible", "", 1.0, float(one.status != "infeasible"), _EXACT)
    flagged = float(many.status == "infeasible" and many.law == CAPACITY)
    yield Check("50,000 sequences of 2k tokens called infeasible by capacity", "", 1.0, flagged, _EXACT)
    rates = [c.value / float(c.batch or 1) for c in claims_of(d["claims"])]
    linear = float(rates[1] / rates[0] > 0.5)
    yield Check("'linear scaling with batch', from 1 to 1000", "", 0.0, linear, _EXACT)
    low, high = d["latency_ms"]
    agrees = float(low <= 1e3 / 2400 <= high)
    yield Check("its milliseconds and its tokens per second agree", "", 1.0, agrees, _EXACT)


def _mesh(m: Mapping[str, int]) -> Iterator[Check]:
    """The operation that it means: Q4_K weights in place on the mesh, a batch of vectors through them, on real data."""
    from waferline.machines.mesh import load_parameters
    from waferline.simulate.mesh.gemv import simulate_gemv
    from waferline.simulate.mesh.operators import matrix_product

    wafer = load_parameters("wse3-notebook")
    for batch in (1, m["batch"]):
        side = m["side"]
        op = matrix_product(batch, m["rows"], m["columns"], weights="q4_k")
        result = simulate_gemv(op, wafer, side, side)
        exact = float(result.accuracy is not None and result.accuracy.passes)
        name = f"Q4_K GEMV {m['rows']}×{m['columns']} on {side}² cores, batch {batch}, agrees with NumPy"
        yield Check(name, "", 1.0, exact, _EXACT, how=result.how)


STUDY = Study(
    name="inference-x",
    title="Inference-X: Q4_K matrix products on a wafer-scale engine",
    source=Source("https://git.inference-x.com", "2026"),
    claim="2,400 tokens/s for one user of Llama-7B on a CS-3, 50,000 at a batch of 50,000",
    configuration={"model": "Llama-7B, Q4_K", "machine": "Cerebras CS-3", "context": "2k tokens"},
    compute=compute,
    note="its numbers are a comment in a source file: they are judged, never used as evidence",
)
