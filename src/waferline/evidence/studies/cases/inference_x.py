"""Inference-X's Q4_K on a wafer: the right codec, the wrong one, and claims that were never run.

A published decoder of Q4_K blocks that is wrong in five places, kept as a negative test of the right one.

It reads six-bit scales as one contiguous run of scale, scale, minimum, minimum; subtracts 32 from them as another format
does; adds the minimum instead of subtracting it; and takes neighbouring weights from the two halves of a byte. d and
dmin are given to it correctly. Source: the behaviour described for Inference-X's q4_gemm_wse.c, written anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from waferline.evidence.claims.judge import LATENCY, judge_claims
from waferline.evidence.claims.laws import CAPACITY
from waferline.evidence.claims.sentence import claims_of
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity, own
from waferline.evidence.studies.tolerance import AIM, absolute, at_least, at_most
from waferline.formats.codec import decode, encode
from waferline.machines.mesh import load_parameters
from waferline.simulate.mesh.gemv import simulate_gemv
from waferline.simulate.mesh.operators import matrix_product

BLOCK_BYTES, BLOCK_WEIGHTS = 144, 256
_SUB_BLOCKS, _SIX_BITS, _WRONG_BIAS = 8, 6, 32


def decode_misread(blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Weights (blocks, 256) as the wrong decoder makes them; `blocks` is (blocks, 144)."""
    d, minimum = blocks[:, :4].copy().view(np.float16).astype(np.float32).T
    fields = np.unpackbits(blocks[:, 4:16], axis=1, bitorder="little").reshape(len(blocks), -1, _SIX_BITS)
    six = fields @ (1 << np.arange(_SIX_BITS))  # 16 numbers a block, read contiguously
    quads = six.reshape(len(blocks), -1, 4)
    scales, minima = (quads[..., part].reshape(len(blocks), _SUB_BLOCKS) - _WRONG_BIAS for part in ([0, 1], [2, 3]))
    codes = blocks[:, 16:]
    nibbles = np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(blocks), _SUB_BLOCKS, -1)
    scaled = d[:, None] * scales
    weights = scaled[..., None] * nibbles + (minimum[:, None] * minima)[..., None]
    return np.asarray(weights.reshape(len(blocks), BLOCK_WEIGHTS), dtype=np.float32)


_EXACT = absolute(0.0, "exact")
_GOOD = 0.99  # correlation of weights with their four-bit form


def compute(d: Facts) -> Iterator[Check]:
    yield from _codec(d["decoder_correlation"])
    yield from _claims(d)
    yield from _mesh(d["mesh"])
    why = "the published kernel leaves attention as a comment and shows no run"
    yield Check("tokens per second of the kernel", "tok/s", 2400, None, why=why)


def _codec(threshold: float) -> Iterator[Check]:
    """One matrix of small Gaussian weights through the right codec and through the published reading of its bytes."""

    weights = np.random.default_rng(0).normal(0, 0.02, (64, 256)).astype(np.float32)
    data = encode(weights, "q4_k")
    right = decode(data, "q4_k", weights.shape)
    wrong = decode_misread(np.asarray(data).reshape(-1, BLOCK_BYTES))
    for name, decoded, limit in (
        ("ggml's reading", right, at_least(_GOOD, AIM)),
        ("the published reading", wrong, at_most(threshold, AIM)),
    ):
        correlation = float(np.corrcoef(weights.ravel(), decoded.ravel())[0, 1])
        yield own(f"correlation of weights, {name}", "", None, correlation, limit, how="measured")


def _claims(d: Facts) -> Iterator[Check]:
    one, _, many = judge_claims(claims_of(d["claims"]))
    yield own("2400 tok/s at batch 1 called latency-bound", "", 1.0, float(one.law == LATENCY), _EXACT)
    yield own("and not infeasible", "", 1.0, float(one.status != "infeasible"), _EXACT)
    flagged = float(many.status == "infeasible" and many.law == CAPACITY)
    yield own("50,000 sequences of 2k tokens called infeasible by capacity", "", 1.0, flagged, _EXACT)
    rates = [c.value / float(c.batch or 1) for c in claims_of(d["claims"])]
    linear = float(rates[1] / rates[0] > 0.5)
    yield identity("'linear scaling with batch', from 1 to 1000", "", 0.0, linear, _EXACT)
    low, high = d["latency_ms"]
    agrees = float(low <= 1e3 / 2400 <= high)
    yield identity("its milliseconds and its tokens per second agree", "", 1.0, agrees, _EXACT)


def _mesh(m: Mapping[str, int]) -> Iterator[Check]:
    """The operation that it means: Q4_K weights in place on the mesh, a batch of vectors through them, on real data."""

    wafer = load_parameters("wse3-notebook")
    for batch in (1, m["batch"]):
        side = m["side"]
        op = matrix_product(batch, m["rows"], m["columns"], weights="q4_k")
        result = simulate_gemv(op, wafer, side, side)
        exact = float(result.accuracy is not None and result.accuracy.passes)
        name = f"Q4_K GEMV {m['rows']}×{m['columns']} on {side}² cores, batch {batch}, agrees with NumPy"
        yield own(name, "", 1.0, exact, _EXACT, how=result.how)
