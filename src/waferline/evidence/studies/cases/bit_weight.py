"""Tensor engines in the bit-weight dimension: encodings, digits that are left, and cycles of five engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import EXACT, at_most, printed, relative

_DIGITS = 0.02
_WHY_OPT4C = (
    "the run's vector length is not stated, and the test bench averages in one empty sample a vector: 2.26 at K = 32"
)
_WHY_SAMPLE = (
    "the operands were sampled: K = 32 and K = 128 differ by 1.2 % in print where one empty sample a vector makes 2.3 %"
)
_WHY_PDK = "area and energy depend on the process kit: the authors' SAED32 reports give other ratios; kept as data"


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts

    data = facts("bit-weight")
    yield from _exact()
    yield from _digits(data)
    yield from _cycles()
    for gain in data["gains"]:
        ratio = None
        if "mhz" in gain:
            (new, old), (new_area, old_area) = gain["mhz"], gain["cell_area"]
            ratio = (new / new_area) / (old / old_area)
        yield Check(f"{gain['name']} (SMIC 28 nm; computed: SAED32)", "×", gain["published"], ratio, None, _WHY_PDK)


def _exact() -> Iterator[Check]:
    import numpy as np

    from waferline.techniques.edge.bit_weight import DIGITS, booth_digits, ent_digits, matmul_by_digits

    values, weights = np.arange(-128, 128), 4 ** np.arange(DIGITS)
    rng = np.random.default_rng(0)
    a, b = rng.integers(-128, 128, (33, 70)), rng.integers(-128, 128, (70, 21))
    for name, encode in (("EN-T", ent_digits), ("Booth", booth_digits)):
        wrong = int(np.sum(encode(values) @ weights != values))
        yield Check(f"{name} digits: int8 values not restored", "of 256", 0, wrong, EXACT)
        wrong = int(np.sum(matmul_by_digits(a, b, encode) != a @ b))
        yield Check(f"product by {name} digits: elements not exact", "of 693", 0, wrong, EXACT)


def _digits(data: Mapping[str, Any]) -> Iterator[Check]:
    import numpy as np

    from waferline.techniques.edge.bit_weight import booth_digits, ent_digits, mean_cycles, mean_digits, normal_int8

    for table in data["digits"]:
        seen = table["k"] / (table["k"] + data["extra_samples"])
        for sigma, published in zip(table["sigma"], table["mean"], strict=True):
            mean = seen * mean_digits(normal_int8(sigma))
            name = f"digits left, sigma {sigma}, K {table['k']}"
            yield Check(name, "an operand", published, mean, relative(_DIGITS), why=_WHY_SAMPLE)
    run, group = data["opt4c"], data["group"]
    mean = mean_digits(normal_int8(run["sigma"]))
    name = f"OPT4C, sigma {run['sigma']}"
    yield Check(name, "an operand", run["cycles"], mean, relative(_DIGITS), why=_WHY_OPT4C)
    for name, encode in (("ent", ent_digits), ("booth", booth_digits)):
        mean, said = mean_digits(np.full(256, 1 / 256), encode), data["uniform"][name]
        yield Check(f"digits left, uniform int8, {name}", "an operand", said, mean, printed(str(said)))
    sparse = normal_int8(data["digits"][0]["sigma"][0])
    extra = mean_cycles(sparse, group) / mean_digits(sparse)
    name = "cycles over digits at sigma 10: an all-zero group still takes one"
    yield Check(name, "×", None, extra, None, why="the source counts digits only; the true cycle count is higher")


def _cycles() -> Iterator[Check]:
    import numpy as np

    from waferline.techniques.edge import systolic
    from waferline.techniques.edge.engine_cycles import ENGINES, Array2D

    rng = np.random.default_rng(1)
    m, k, n, array = 19, 23, 13, Array2D(8, 6, depth=4)
    a, b = rng.integers(-128, 128, (m, k)), rng.integers(-128, 128, (k, n))
    for name, run in (
        ("systolic, output stationary", systolic.output_stationary),
        ("systolic, weight stationary", systolic.weight_stationary),
    ):
        result, cycles = run(a, b, array.rows, array.columns)
        wrong = int(np.sum(result != a @ b))
        yield Check(f"{name}: elements not exact", f"of {m * n}", 0, wrong, EXACT, how="simulated")
        formula = float(ENGINES[name](m, k, n, array))
        yield Check(f"{name}: formula against registers", "cycles", cycles, formula, EXACT)
    full = Array2D(16, 16, depth=16)
    for name, model in ENGINES.items():
        multipliers = full.rows * full.columns * (full.depth if name == "cube" else 1)
        busy = 512**3 / multipliers / float(model(512, 512, 512, full))
        yield Check(f"{name}: multipliers busy at 512³", "share", None, busy, at_most(1.0))


STUDY = Study(
    name="bit-weight",
    title="Tensor processing engines in the bit-weight dimension",
    source=Source("https://arxiv.org/abs/2503.06342", "2025-03-09"),
    sources=(Source("https://github.com/wqzustc/High-Performance-Tensor-Processing-Engines", "2025", "RTL, reports"),),
    claim="skipping zero digits and reducing by bit weight gives 1.27 to 1.56 times the area efficiency of MAC arrays",
    configuration={"operands": "int8", "engines": "systolic OS and WS, cube, adder tree, outer product"},
    compute=compute,
    note="Published digits are RTL simulations; area and energy are synthesis reports.",
)
