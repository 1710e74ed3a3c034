"""Classic learners as networks of one pass: what a classification of one sample multiplies, adds and compares.

`learner: {kind: linear-svm, features: 21, classes: 10}` in a model file. Kernels as in Tabanelli et al. 2023, arXiv:2107.09448,
section III; transformers of low-rank weights for microcontrollers as in Liang et al. 2023, MCUFormer, arXiv:2310.16898.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from waferline.errors import FileFormatError, InvalidInputError, nearest
from waferline.workloads.config_reader import MAX_SIZE
from waferline.workloads.spec import ConvNet, Work


def _product(name: str, rows: int, length: int, samples: int = 1) -> Work:
    """`rows` dot products of `length` with what was learned, a bias each, of `samples` vectors."""
    moved = {"input_elements": samples * length, "output_elements": samples * rows}
    return Work(name, "gemm", m=samples, n=rows, k=length, params=rows * (length + 1), **moved)


def _stream(name: str, outputs: int, taken: int = 1, params: int = 0) -> Work:
    """`outputs` numbers, each from `taken` others."""
    return Work(
        name, "elementwise", params=params, input_elements=outputs * taken, output_elements=outputs, kernel=taken
    )


def _linear(features: int, classes: int) -> Iterator[Work]:
    yield _product("scores", classes, features)
    yield _stream("largest", 1, classes)


def _logistic(features: int, classes: int) -> Iterator[Work]:
    yield _product("scores", classes, features)
    yield _stream("sigmoid", classes)
    yield _stream("largest", 1, classes)


def _kernel_svm(features: int, classes: int, support: int) -> Iterator[Work]:
    """Radial basis functions around stored vectors, one exponential each."""
    yield _product("distances", support, features)
    yield _stream("exponentials", support)
    yield _product("scores", classes, support)
    yield _stream("largest", 1, classes)


def _naive_bayes(features: int, classes: int) -> Iterator[Work]:
    yield _stream("squared distances", features * classes, 2, params=2 * features * classes)
    yield _stream("sums", classes, features, params=classes)
    yield _stream("largest", 1, classes)


def _neighbours(features: int, support: int, neighbours: int) -> Iterator[Work]:
    yield _product("distances", support, features)
    yield _stream("smallest of those left", neighbours, support)


def _forest(features: int, classes: int, trees: int, depth: int) -> Iterator[Work]:
    """A node a level and tree: a feature, a threshold and a branch; every leaf votes."""
    yield Work(
        "nodes",
        "gather",
        params=2 * trees * (2**depth - 1),
        input_elements=trees * depth,
        output_elements=trees * depth,
    )
    yield _stream("votes", classes, trees)


def _low_rank_vit(
    features: int, classes: int, width: int, depth: int, heads: int, hidden: int, rank: int, patch: int
) -> Iterator[Work]:
    """A vision transformer of three channels whose every weight is three factors; attention makes a query's row at a time."""
    values = _CHANNELS * patch * patch
    tokens = features // values + 1
    plane = tokens * width
    yield _product("patches", width, values, tokens - 1)
    for i in range(depth):
        yield _stream(f"{i}.norms", 2 * plane)
        for name, taken, made in (
            ("qkv", width, 3 * width),
            ("project", width, width),
            ("up", width, hidden),
            ("down", hidden, width),
        ):
            for factor, (k, n) in enumerate(((taken, rank), (rank, rank), (rank, made))):
                yield _product(f"{i}.{name}{factor}", n, k, tokens)
        sizes = {"input_elements": 3 * plane, "output_elements": heads * tokens}
        yield Work(f"{i}.scores", "gemm", m=tokens, n=tokens, k=width // heads, count=heads, **sizes)
        yield _stream(f"{i}.softmax", heads * tokens * tokens)
        yield Work(
            f"{i}.values",
            "gemm",
            m=tokens,
            n=width // heads,
            k=tokens,
            count=heads,
            input_elements=2 * plane,
            output_elements=plane,
        )
        yield _stream(f"{i}.gelu", tokens * hidden)
    yield _product("head", classes, width)


# Kind → its layers and the sizes that it has beside `features`, which every sample has.
_KINDS: Mapping[str, tuple[Callable[..., Iterator[Work]], tuple[str, ...]]] = {
    "linear-svm": (_linear, ("classes",)),
    "kernel-svm": (_kernel_svm, ("classes", "support")),
    "logistic-regression": (_logistic, ("classes",)),
    "naive-bayes": (_naive_bayes, ("classes",)),
    "nearest-neighbours": (_neighbours, ("support", "neighbours")),
    "random-forest": (_forest, ("classes", "trees", "depth")),
    "low-rank-vit": (_low_rank_vit, ("classes", "width", "depth", "heads", "hidden", "rank", "patch")),
}
_CHANNELS = 3
_DEEPEST = 40  # levels: more nodes than any memory holds


def learner(data: Any, where: str) -> ConvNet:
    """The learner that `data` describes. Raises: FileFormatError for a kind or size that is missing or not known."""
    if not isinstance(data, Mapping) or data.get("kind") not in _KINDS:
        given = data.get("kind") if isinstance(data, Mapping) else data
        raise FileFormatError(f"'{given}' is no kind of learner", where=where, hint=f"one of {', '.join(_KINDS)}")
    layers, names = _KINDS[data["kind"]]
    sizes = {"features": 0, **dict.fromkeys(names, 0)}
    for key, value in data.items():
        if key == "kind":
            continue
        if key not in sizes:
            raise FileFormatError(f"unknown key '{key}'", where=where, hint=", ".join(nearest(str(key), sizes)) or None)
        most = _DEEPEST if key == "depth" else MAX_SIZE
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise InvalidInputError(f"{key} must be a whole number from 1 to {most:,}, not {value!r}", where=where)
        sizes[key] = value
    if missing := [name for name, value in sizes.items() if not value]:
        raise FileFormatError(f"{', '.join(missing)} missing", where=where)
    if sizes.get("neighbours", 0) > sizes.get("support", MAX_SIZE):
        raise InvalidInputError("more neighbours than stored samples", where=where)
    return ConvNet(
        name="",
        title="",
        family="learner",
        layers=tuple(layers(**sizes)),
        input_shape=(sizes["features"],),
        classes=sizes.get("classes", 0),
    )
