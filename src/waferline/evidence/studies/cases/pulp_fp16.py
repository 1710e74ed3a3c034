"""Training in fp16 on a PULP microcontroller: cycles from counted instructions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from waferline.evidence.studies.cases.pulp_training import Cluster, Loop, Matmul, linear_steps, training_step
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check
from waferline.evidence.studies.tolerance import SOURCE, at_least, at_most, relative
from waferline.workloads.load import load_model
from waferline.workloads.spec import Conv, ConvNet

_ONE_CORE, _EIGHT_CORES = 0.05, 0.15
_WHY_2X4 = (
    "eight accumulators, six operands and their pointers exceed what post-increment loads address: a measured pass "
    "takes about two cycles more than its source shows"
)
_WHY_TIME = "neither the clock nor the MACs that were counted are published, and 3.11 MAC a cycle in 17.1 ms needs both"


def compute(data: Facts) -> Iterator[Check]:
    fitted = {name: entry["value"] for name, entry in data["fitted"].items()}
    loops = {name: Loop.from_facts(entry) for name, entry in data["loops"].items()}
    cluster = Cluster(
        cores=data["machine"]["cores"],
        loop_cycles=fitted["loop_cycles"],
        outer_product_cycles=fitted["outer_product_cycles"],
        im2col_cycles=fitted["im2col_cycles"],
        contention=fitted["contention"],
    )
    yield from _vector_matrix(data, loops, cluster, fitted["simd_loop_cycles"])
    yield from _pointwise(data, loops, cluster)
    yield from _step(data, loops, cluster, fitted)
    yield from _headlines(data, loops, replace(cluster, loop_cycles=fitted["simd_loop_cycles"]))


def _vector_matrix(data: Facts, loops: Mapping[str, Loop], plain: Cluster, simd: float) -> Iterator[Check]:
    product = Matmul(128, 128, 1)
    for row in data["vector_matrix"]:
        cluster = replace(plain, loop_cycles=simd) if row["loop"].startswith("simd") else plain
        cycles = cluster.matmul(product, loops[row["loop"]])
        known = bool(row.get("fitted"))
        yield Check(
            f"{row['name']} 128x128, 1 core", "cycles", row["cycles"], cycles, relative(_ONE_CORE), fitted=known
        )
        if not known:
            theirs, ours = abs(row["estimate"] / row["cycles"] - 1), abs(cycles / row["cycles"] - 1)
            name = f"{row['name']}: our error over that of the tutorial's own estimate"
            yield Check(name, "×", None, ours / theirs, at_most(1.0))
    row = data["vector_matrix_8_cores"]
    cluster = replace(plain, loop_cycles=simd)
    eight = cluster.shared(cluster.matmul(product, loops[row["loop"]]), product.n)
    yield Check(f"{row['name']} 128x128, 8 cores", "cycles", row["cycles"], eight, relative(_EIGHT_CORES))


def _pointwise(data: Facts, loops: Mapping[str, Loop], cluster: Cluster) -> Iterator[Check]:
    for row in data["pointwise"]:
        cycles = cluster.matmul(Matmul(16, 16, 64), loops[row["loop"]])
        name = f"pointwise conv forward, {row['name']} loop, 1 core"
        yield Check(name, "cycles", row["cycles"], cycles, relative(_ONE_CORE), why=_WHY_2X4)


def _step(data: Facts, loops: Mapping[str, Loop], cluster: Cluster, fitted: Mapping[str, float]) -> Iterator[Check]:
    linear, elements, naive = linear_steps(576, 32), 576, loops["naive"]
    unfolded = 36 * 72
    work = {  # cycles on one core, and the rows that are split over the cores
        "Conv2D FW": (cluster.matmul(Matmul(16, 72, 36, unfolded), naive), 16),
        "ReLU FW": (elements * fitted["relu_forward_cycles"], elements),
        "Linear FW": (cluster.matmul(linear["FW"], naive), 32),
        "Linear BW": (cluster.matmul(linear["WG"], naive) + cluster.matmul(linear["IG"], naive), 32),
        "ReLU BW": (elements * fitted["relu_backward_cycles"], elements),
        "Conv2D WG": (cluster.matmul(Matmul(16, 36, 72, unfolded), naive), 16),
        "weight update": ((16 * 72 + 576 * 32) * loops["update"].cycles, 16 * 72 + 576 * 32),
    }
    one = eight = float(data["step_total"]["loss_cycles"])
    for row in data["step"]:
        cycles, rows = work[row["name"]]
        shared, known = cluster.shared(cycles, rows), row.get("fitted", ())
        one, eight = one + cycles, eight + shared
        yield Check(f"{row['name']}, 1 core", "cycles", row["cycles"], cycles, relative(_ONE_CORE), fitted=1 in known)
        yield Check(
            f"{row['name']}, 8 cores", "cycles", row["cycles_8"], shared, relative(_EIGHT_CORES), fitted=8 in known
        )
    total = data["step_total"]
    yield Check("whole training step, 1 core", "cycles", total["cycles"], one, relative(_ONE_CORE))
    yield Check("whole training step, 8 cores", "cycles", total["cycles_8"], eight, relative(_EIGHT_CORES))


def _headlines(data: Facts, loops: Mapping[str, Loop], cluster: Cluster) -> Iterator[Check]:
    said, cores = data["headlines"], data["machine"]["cores"]
    most = said["fp32_macs_per_cycle"]
    bound = cores / loops["unroll_2x4"].cycles_per_mac
    yield Check("bound of an fp32 product, 8 cores", "MAC/cycle", most, bound, at_least(most, SOURCE))
    ratio = loops["unroll_2x4"].cycles_per_mac / loops["simd_4x8"].cycles_per_mac
    yield Check("fp16 over fp32, Conv2D step", "×", said["fp16_over_fp32"], ratio, relative(_EIGHT_CORES))
    for name, key in (("resnet-8", "resnet8"), ("ds-cnn", "ds_cnn")):
        model = load_model(name)
        assert isinstance(model, ConvNet)  # the catalogue says so, and writes convolutions
        layers = [layer for layer in model.layers if isinstance(layer, Conv)]
        macs, cycles = training_step(layers, loops["simd_4x8"], cluster)
        published = said[key]["macs_per_cycle"]
        limit = at_least(published, SOURCE)
        yield Check(f"bound of a {name} training step, fp16, all in L1", "MAC/cycle", published, macs / cycles, limit)
        yield Check(f"{name} training step", "s", said[key]["latency_s"], None, why=_WHY_TIME)
