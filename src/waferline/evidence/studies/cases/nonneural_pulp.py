"""Non-neural learners on a parallel microcontroller: operations counted, with an FPU and without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from waferline.evidence.studies.cases import classic_ml as ml
from waferline.evidence.studies.cases.classic_ml import Kernel, Operations
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity
from waferline.evidence.studies.tolerance import absolute, at_most, between

_PERCENT = absolute(0.01)  # whole per cent in print, rounded or cut
_WHY_POWER = "the two machines do not draw the same power, and neither power is in the abstract"


def compute(data: Facts) -> Iterator[Check]:
    native, soft = data["cycles"]["native"], data["cycles"]["soft"]
    low, high = data["fpu_over_soft"]
    fma = Operations(add=1, mul=1, load=2)  # two loads, multiply, add: in hardware one fused operation and a stall
    fused = 2 * native["load"] + native["mul"] + native["load"]
    loop = "multiply-add loop, soft float over FPU"
    yield Check(loop, "×", None, (fma.cycles(soft) + 1) / fused, between(low, high))
    kernels = list(_kernels(data["sizes"]))
    ratios = np.array([k.operations.cycles(soft) / k.operations.cycles(native) for k in kernels])
    for kernel, ratio in zip(kernels, ratios, strict=True):
        why = "the tables by kernel were not seen"
        yield Check(f"{kernel.name}, soft float over FPU", "×", None, float(ratio), None, why=why)
    most = data["published"]["fpu"]["speedup"]
    yield Check("largest ratio of a kernel", "×", most, float(ratios.max()), at_most(most, "largest in print"))
    yield from _parallel(data, kernels, native)
    yield from _consistency(data["published"], data["cluster"]["cores"])


def _kernels(sizes: Mapping[str, int]) -> Iterator[Kernel]:

    features, classes = sizes["features"], sizes["classes"]
    yield ml.logistic_regression(features, classes)
    yield ml.linear_svm(features, classes)
    yield ml.gaussian_naive_bayes(features, classes)
    yield ml.nearest_neighbours(features, sizes["support"], sizes["neighbours"])
    yield ml.k_means(features, sizes["samples"], sizes["clusters"])
    yield ml.random_forest(sizes["trees"], sizes["depth"], classes)


def _parallel(data: Facts, kernels: list[Kernel], cost: Mapping[str, float]) -> Iterator[Check]:
    cluster, (low, high) = data["cluster"], data["parallel_range"]
    speedups = [k.speedup(cost, cluster["cores"], cluster["contention"]) for k in kernels]
    for kernel, speedup in zip(kernels, speedups, strict=True):
        yield Check(f"{kernel.name}, 8 cores", "×", None, speedup, at_most(cluster["cores"]))
    mean, published = sum(speedups) / len(speedups), data["published"]["parallel"]["speedup"]
    why = "the contention carried over from a convolution caps every kernel at 6.84, and the sizes were not seen"
    yield Check("mean speed-up on 8 cores", "×", published, mean, between(low, high), why=why, stated_kind="data")


def _consistency(said: Facts, cores: int) -> Iterator[Check]:
    """What the abstract's own numbers say about each other at equal power: energy saved is 1 - 1 / speed-up."""
    for name, entry in (("better library", said["speedup_of_library"]), ("FPU, at most", said["fpu"])):
        saved = 1 - 1 / entry["speedup"]
        text = f"{name}: energy saved at equal power"
        yield identity(text, "share", entry["energy_saved"], saved, _PERCENT, why=_WHY_POWER)
    parallel = said["parallel"]
    needed = 1 / (1 - parallel["saved_at_most"])
    yield identity("8 cores: speed-up that saving 87 % takes", "×", None, needed, between(parallel["speedup"], cores))
    m4 = said["cortex_m4"]
    text = "Cortex-M4: energy efficiency lost at equal power"
    yield identity(text, "share", m4["less_efficient"], 1 - 1 / m4["slower"], _PERCENT, why=_WHY_POWER)
