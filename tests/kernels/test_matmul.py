"""Packed matrix products against the plain reference with the same quantised activations."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.random_gguf import random_blocks

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.kernels import cpu, reference
from waferline.kernels.cpu.tiles import TILES

TOLERANCE = 1e-6  # relative, L2, against f64 on the same quantised input
FORMATS = tuple(TILES)


def problem(format: str, rows: int, cols: int, batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return random_blocks(format, rows, cols, rng, 0.05), rng.standard_normal((batch, cols)).astype(np.float32)


def relative_error(y: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(y - expected) / np.linalg.norm(expected))


# Every format for one vector, both ways; some for batches that fill no column block (each width is compiled apart).
CASES = [(f, 1, exact) for f in FORMATS for exact in (False, True) if not (TILES[f].exact and exact)]
CASES += [
    ("Q4_K", 3, False),
    ("Q4_K", 20, False),
    ("Q5_K", 20, False),  # from 16 columns on in tiles, where the processor has them
    ("Q6_K", 20, False),
    ("TQ2_0", 37, False),
    ("Q6_K", 3, False),
    ("Q8_0", 3, False),
    ("Q4_K", 3, True),
    ("F32", 3, True),
]


@pytest.mark.parametrize(("format", "batch", "exact"), CASES)
def test_product_equals_the_reference(format: str, batch: int, exact: bool) -> None:
    rows, cols = 50, 512  # 50 is no multiple of a tile's 16 rows, 3 and 20 none of a width
    data, x = problem(format, rows, cols, batch)
    packed = cpu.pack(data.tobytes(), format, (rows, cols))
    expected = reference.matmul(data, format, rows, cols, x, exact=exact)
    one = cpu.matmul(packed, x, exact=exact, threads=1)
    assert relative_error(one, expected) < TOLERANCE
    if os.cpu_count() != 1:
        np.testing.assert_array_equal(cpu.matmul(packed, x, exact=exact, threads=2), one)


@pytest.mark.parametrize(("format", "cols"), [("Q8_0", 96), ("Q4_0", 32), ("F16", 33), ("F32", 1), ("BF16", 257)])
def test_columns_that_fill_no_whole_tile(format: str, cols: int) -> None:
    data, x = problem(format, 19, cols, 1)
    expected = reference.matmul(data, format, 19, cols, x)
    assert relative_error(cpu.matmul(cpu.pack(data, format, (19, cols)), x), expected) < TOLERANCE


def test_several_matrices_in_turn() -> None:
    data, x = problem("Q4_K", 40, 512, 3)
    one = cpu.pack(data, "Q4_K", (40, 512))
    other = cpu.pack(problem("Q4_K", 40, 512, 1, seed=5)[0], "Q4_K", (40, 512))
    product = cpu.Matmul(one, 3)
    last = product.in_turn(np.stack([one.data, other.data]), x)
    np.testing.assert_array_equal(last, cpu.matmul(other, x))
    with pytest.raises(InvalidInputError, match="weights are"):
        product.in_turn(one.data[None, :-1], x)
    with pytest.raises(InvalidInputError, match="x is"):
        product.in_turn(one.data[None], x[:2])


@settings(max_examples=25, deadline=None)
@given(
    format=st.sampled_from(["Q4_K", "Q6_K", "Q8_0", "F32"]),
    rows=st.integers(1, 70),
    blocks=st.integers(1, 3),
    batch=st.sampled_from([1, 3, 17]),
    power=st.integers(-60, 60),
    seed=st.integers(0, 1000),
)
def test_any_shape_and_magnitude(format: str, rows: int, blocks: int, batch: int, power: int, seed: int) -> None:
    data, x = problem(format, rows, 256 * blocks, batch, seed)
    x = np.ldexp(x, power)
    y = cpu.matmul(cpu.pack(data, format, (rows, 256 * blocks)), x)
    # Of one or a few outputs all may cancel to nearly zero, so the error is held against the sum of magnitudes.
    weights = reference.dequantise(data, format, rows, 256 * blocks)
    activations = reference.quantise_activations(x, format)
    scale = np.linalg.norm(np.abs(activations) @ np.abs(weights).T)
    assert np.linalg.norm(y - activations @ weights.T) < TOLERANCE * scale


@pytest.mark.parametrize("format", FORMATS)
def test_zero_activations_give_zero(format: str) -> None:
    data, x = problem(format, 17, 256, 1)
    assert not cpu.matmul(cpu.pack(data, format, (17, 256)), np.zeros_like(x)).any()


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("format", ["Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "TQ2_0"])
def test_extreme_codes_do_not_overflow_the_integers(format: str, batch: int) -> None:
    """All code bits set against activations of one sign: the largest integer sums there are."""
    tile = TILES[format]
    data = np.full((16, 2 * 256 // tile.source_k, tile.source_bytes), 0xAA if format == "TQ2_0" else 0xFF, np.uint8)
    half = np.full(1, 0.01, np.float16).view(np.uint8)
    at = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q8_0": (0,), "Q4_0": (0,), "TQ2_0": (64,)}[format]
    for offset in at:
        data[:, :, offset : offset + 2] = half
    for sign in (1, -1):
        x = np.full((batch, 512), sign * 3.0, np.float32)
        expected = reference.matmul(data, format, 16, 512, x)
        assert relative_error(cpu.matmul(cpu.pack(data, format, (16, 512)), x), expected) < TOLERANCE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("format", "batch"), [("Q4_K", 3), ("Q8_0", 3), ("Q4_K", 18)])
def test_a_bad_activation_makes_its_column_nan_and_no_other(format: str, batch: int, bad: float) -> None:
    data, x = problem(format, 20, 512, batch)
    clean = cpu.matmul(cpu.pack(data, format, (20, 512)), x)
    x[1, 300] = bad
    y = cpu.matmul(cpu.pack(data, format, (20, 512)), x)
    assert np.isnan(y[1]).all()
    others = np.arange(batch) != 1
    np.testing.assert_array_equal(y[others], clean[others])


def test_exact_products_follow_ieee() -> None:
    data, x = problem("F32", 16, 64, 1)
    x[0, 5] = np.inf
    y = cpu.matmul(cpu.pack(data, "F32", (16, 64)), x)
    np.testing.assert_array_equal(np.sign(y), np.sign(data.view(np.float32).reshape(16, 64)[:, 5])[None])
    assert np.isinf(y).all()


def test_one_vector_and_float_arrays() -> None:
    rng = np.random.default_rng(3)
    w, x = rng.standard_normal((7, 40)).astype(np.float32), rng.standard_normal(40).astype(np.float32)
    y = cpu.matmul(cpu.pack(w), x)
    assert y.shape == (7,)
    np.testing.assert_allclose(y, w.astype(np.float64) @ x, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: cpu.pack(b"", "Q9_Z", (1, 256)), UnsupportedError, "Q4_K"),
        (lambda: cpu.pack(b"abc", "Q4_K", (1, 256)), InvalidInputError, "144 bytes"),
        (lambda: cpu.pack(b"", "Q4_K", (1, 100)), InvalidInputError, "multiple of 256"),
        (lambda: cpu.pack(b"", "Q4_K", (0, 256)), InvalidInputError, "shape 0 x 256"),
        (lambda: cpu.pack(np.zeros((2, 2))), InvalidInputError, "float32 or float16"),
        (lambda: cpu.matmul(cpu.pack(np.zeros((2, 3), np.float32)), np.zeros(4)), InvalidInputError, "3 columns"),
        (
            lambda: cpu.matmul(cpu.pack(np.zeros((2, 3), np.float32)), np.zeros(3), threads=0),
            InvalidInputError,
            "threads",
        ),
        (lambda: cpu.matmul(cpu.pack(np.zeros((2, 3), np.float32)), np.array(["a"] * 3)), InvalidInputError, "type"),
    ],
)
def test_wrong_calls_say_what_is_wrong(call: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()  # type: ignore[operator]


_SCRIPT = """
import numpy as np
from waferline.kernels import cpu
from waferline.kernels.cpu.isa import current_isa
from tests.kernels.random_gguf import random_blocks
rng = np.random.default_rng(7)
total = []
for format, batch in (("Q4_K", 1), ("Q4_K", 20), ("Q8_0", 1)):
    data = random_blocks(format, 32, 512, rng, 0.05)
    x = rng.standard_normal((batch, 512)).astype(np.float32)
    total += cpu.matmul(cpu.pack(data, format, (32, 512)), x).reshape(-1).tolist()
print(current_isa().name, *total)
"""


def _run_with(environment: dict[str, str]) -> tuple[str, np.ndarray]:
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    name, *values = result.stdout.split()
    return name, np.array(values, float)


@pytest.mark.slow
def test_lesser_instruction_sets_agree() -> None:
    """AVX2 through Numba's own switches (the kernels must notice), and code any target can run."""
    name, expected = _run_with({})
    plain, values = _run_with({"WAFERLINE_ISA": "portable"})
    assert plain == "portable"
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)
    if name == "amx-int8":
        lesser, values = _run_with({"WAFERLINE_ISA": "avx512-vnni"})
        assert lesser == "avx512-vnni"
        np.testing.assert_array_equal(values, expected)  # tiles and vectors add the same integers
    if name.startswith(("amx", "avx512")):
        switched = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+sse4.2"}
        lesser, values = _run_with(switched)
        assert lesser == "avx2"
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)
