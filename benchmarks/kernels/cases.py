"""The operators that are measured and what they are to reach (shares of read bandwidth, ratios to llama.cpp)."""

from __future__ import annotations

from benchmarks.kernels.operators import Case

SHAPES = ((4096, 4096), (14336, 4096), (4096, 14336))


def cases(threads: int) -> list[Case]:
    """The table for one thread and, where the machine has them, two."""
    one = [Case("Q4_K", r, c, least_share=0.92, least_ratio=1.4) for r, c in SHAPES]
    one += [Case(f, 4096, 4096, least_ratio=1.4) for f in ("Q6_K", "Q8_0", "TQ2_0")]
    one += [Case(f, 4096, 4096) for f in ("Q5_K", "Q4_0", "F16", "BF16")]
    one += [Case("Q4_K", 4096, 4096, batch=n, least_ratio=2.5) for n in (2, 4, 8, 12)]
    one += [Case("Q4_K", 4096, 4096, batch=512, least_ratio=1.7)]
    one += [Case("Q4_K", r, c, exact=True, least_share=0.7, least_ratio=1.2) for r, c in SHAPES[:2]]
    if threads < 2:
        return one
    two = [
        Case("Q4_K", r, c, threads=2, least_share=0.88 if i else None, least_ratio=1.6)
        for i, (r, c) in enumerate(SHAPES)
    ]
    two += [Case("Q4_K", 4096, 4096, batch=n, threads=2, least_ratio=2.5) for n in (4, 12)]
    return [*one, *two, Case("Q4_K", 4096, 4096, batch=512, threads=2, least_ratio=1.7)]


def lesser_cases(isa: str) -> list[Case]:
    """What is measured with an instruction set switched down: the usual vector product, and prefill without tiles."""
    if isa == "avx512-vnni":
        return [Case("Q4_K", 4096, 4096, batch=512, least_ratio=1.7)]
    return [Case("Q4_K", r, c, least_share=0.7, least_ratio=1.2) for r, c in SHAPES[:2]]
