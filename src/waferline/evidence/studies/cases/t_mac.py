"""T-MAC: products of low-bit weights by table look-up on CPUs.

Cost of matrix products by table look-up on CPUs: linear in the bits of a weight, where dequantisation is flat.

Source: T-MAC, arXiv:2407.00088v2, section 3. The kernel itself is `waferline.kernels.cpu.lut`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity, own
from waferline.evidence.studies.tolerance import absolute, at_most, relative
from waferline.kernels.cpu.lut import matvec, pack_codes
from waferline.workloads.load import load_model
from waferline.workloads.spec import Transformer
from waferline.workloads.weights import weight_elements


@dataclass(frozen=True, slots=True)
class LutToken:
    """Time of a generated token on one machine with one model: `layers_s` once, `bit_s` for every bit of a weight."""

    layers_s: float
    bit_s: float

    def time_s(self, bits: float, layers: float = 1.0, parameters: float = 1.0) -> float:
        """For a model with so many times the layers and the parameters of the fitted one."""
        return self.layers_s * layers + self.bit_s * bits * parameters


def fit(tokens_per_s: dict[float, float]) -> LutToken:
    """The two constants from the rates at two widths, `{bits: tokens/s}`."""
    (one, rate_one), (two, rate_two) = sorted(tokens_per_s.items())
    bit_s = (1 / rate_two - 1 / rate_one) / (two - one)
    return LutToken(1 / rate_one - one * bit_s, bit_s)


def thread_times_s(threads: npt.ArrayLike, first_s: float, most: float, most_s: float) -> FloatArray:
    """Times at other thread counts from those at one and at `most` threads: a shared part and one that divides."""
    divides = (first_s - most_s) / (1 - 1 / most)
    return np.asarray(first_s - divides + divides / np.asarray(threads, dtype=np.float64))


def relative_energy(power_ratio: float, speed_ratio: float) -> float:
    """Energy of the same tokens over that of the baseline."""
    return power_ratio / speed_ratio


_TRANSFER = 0.15  # of the measured time of a token
_LISTED_THREADS = (1, 2, 4, 8)
_WHY_CORES = "cores of two kinds or clusters share caches and bandwidth: time is not a shared part and one that divides"
_WHY_MODEL = "what the constant of a token is made of differs with the model beyond its layer count"


def compute(d: Facts) -> Iterator[Check]:
    yield from _numerics()
    yield from _identities(d)
    yield from _transfer(d)
    yield from _threads(d["sweeps"])
    why = "the source does not say how its weights were scaled; a plain 4-bit quantiser gives 7.5e-3"
    yield Check("NMSE of 4-bit weights", "", d["nmse"]["printed"], _nmse(d["nmse"]), relative(_TRANSFER), why=why)


def _numerics() -> Iterator[Check]:
    """The kernel of this package against dequantised weights, in float64 as the reference."""

    rng = np.random.default_rng(1)
    for bits in (1, 2, 3, 4):
        codes = rng.integers(0, 1 << bits, (256, 1024))
        scale = rng.uniform(0.01, 0.02, (256, 32)).astype(np.float32)
        offset = (-scale * (1 << (bits - 1))).astype(np.float32)
        x = rng.standard_normal(1024).astype(np.float32)
        weights = codes * np.repeat(scale, 32, 1).astype(np.float64) + np.repeat(offset, 32, 1)
        exact, got = weights @ x.astype(np.float64), matvec(pack_codes(codes, bits, scale, offset), x)
        error = float(np.abs(got - exact).max() / np.abs(exact).max())
        limit = at_most(1e-5, "rounding of float32")
        yield own(f"LUT kernel against dequantised, {bits} bit", "max error", None, error, limit, how="measured")


def _identities(d: Facts) -> Iterator[Check]:
    for row in d["energy"]:
        saved = 100 * (1 - relative_energy(1 - row["power"], row["ours"] / row["llama_cpp"]))
        off = absolute(0.1, "digits printed, of rounded power and speed")
        yield identity(f"energy saved, {row['name']}", "%", float(row["printed"]), saved, off)
    for row in d["joules"]:
        off = absolute(0.01, "digits printed, of rounded power and speed")
        yield identity(
            f"energy, {row['name']}", "J/token", float(row["printed"]), row["watts"] / row["tokens_per_s"], off
        )


def _transfer(d: Facts) -> Iterator[Check]:
    """Llama-2-7B at 2 and 4 bits fixes two constants; BitNet-3B has its own layers and parameters."""

    layers, parameters = _ratios(d["models"])
    sweeps = {name: (s["w2"], s["w4"], s["bitnet"]) for name, s in d["sweeps"].items()}
    for name, (w2, w4, bitnet) in sweeps.items():
        for threads in _LISTED_THREADS:
            token = fit({2.0: w2[threads - 1], 4.0: w4[threads - 1]})
            rate = 1 / token.time_s(d["predicted_bits"], layers, parameters)
            label = f"BitNet-3B, {name}, {threads} threads"
            yield Check(label, "tok/s", bitnet[threads - 1], rate, relative(_TRANSFER), why=_WHY_MODEL)
    p = d["raspberry_pi_5"]
    rate = 1 / fit({2.0: p["w2"], 4.0: p["w4"]}).time_s(d["predicted_bits"], layers, parameters)
    yield Check("BitNet-3B, Raspberry Pi 5", "tok/s", p["bitnet"], rate, relative(_TRANSFER), why=_WHY_MODEL)


def _ratios(models: Mapping[str, str]) -> tuple[float, float]:
    """Layers and layer parameters of the predicted model over those of the fitted one."""

    layers, blocks = [], []
    for which in ("predicted", "fitted"):
        model = load_model(models[which])
        assert isinstance(model, Transformer)
        layers.append(sum(b.count for b in model.blocks))
        blocks.append(weight_elements(model)["blocks"])
    return layers[0] / layers[1], blocks[0] / blocks[1]


def _threads(sweeps: Mapping[str, Mapping[str, list[float]]]) -> Iterator[Check]:
    """The worst of 2 to 7 threads, from 1 and 8."""

    for machine, series in sweeps.items():
        for name, rates in series.items():
            measured = 1 / np.array(rates)
            predicted = thread_times_s(np.arange(1, 9), measured[0], 8, measured[7])
            worst = int(np.abs(predicted / measured - 1).argmax())
            label = f"{name}, {machine}, worst of 2 to 7 threads: {worst + 1}"
            yield Check(label, "tok/s", rates[worst], float(1 / predicted[worst]), relative(_TRANSFER), why=_WHY_CORES)
    why = "beyond eight threads the published rates fall and scatter ten times as much: nothing steady to predict"
    yield Check("BitNet-3B, M2-Ultra, 16 threads", "tok/s", 54.79, None, why=why)


def _nmse(n: Facts) -> float:
    """Error of a product with weights in 4 bits per group of 32, symmetric, against the unquantised one."""

    rng = np.random.default_rng(0)
    rows, cols = n["shape"]
    weights, x = rng.standard_normal((rows, cols)), rng.standard_normal(cols)
    groups = weights.reshape(rows, -1, n["group"])
    peak = np.take_along_axis(groups, np.abs(groups).argmax(-1, keepdims=True), -1)
    step = peak / -(2.0 ** (n["bits"] - 1))
    codes = np.clip(np.rint(groups / step), -(2 ** (n["bits"] - 1)), 2 ** (n["bits"] - 1) - 1)
    error = ((codes * step).reshape(rows, cols) - weights) @ x
    return float(np.square(error).mean() / np.square(weights @ x).mean())
