"""`TopologyModel`: bandwidth across the middle of a network, hops through it, and nodes it can have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import unknown
from waferline.predict.result import Field, Result
from waferline.units import to_si
from waferline.workloads.scenario import real, whole


class Shape(NamedTuple):
    """A topology of n nodes: links cut by its worst even halving as a share of n/2 of them, and mean hops between nodes."""

    cut: Callable[[FloatArray], FloatArray]
    hops: Callable[[FloatArray], FloatArray]
    source: str


def _torus(dimensions: int) -> Shape:
    """Of equal sides k: halving cuts two layers of k^(d-1) links (the ring closes), and a ring's mean distance is k/4."""

    def side(n: FloatArray) -> FloatArray:
        return np.asarray(n ** (1 / dimensions))

    return Shape(
        lambda n: np.minimum(1.0, 4.0 * side(n) ** (dimensions - 1) / n),
        lambda n: dimensions * side(n) / 4.0,
        "Dally and Towles, Principles and Practices of Interconnection Networks, 2004, section 5.2",
    )


SHAPES: Mapping[str, Shape] = {
    "fat_tree": Shape(
        lambda n: np.ones_like(n),
        lambda n: np.where(n > 1, 2.0 * np.ceil(np.log(n) / np.log(32.0)), 0.0),
        "Al-Fares et al., A scalable, commodity data center network architecture, 2008 (64-port switches)",
    ),
    "dragonfly": Shape(
        lambda n: np.full_like(n, 0.5),
        lambda n: np.minimum(3.0, n - 1.0) + 2.0,
        "Kim et al., Technology-driven, highly-scalable dragonfly topology, 2008 (balanced, minimal routes)",
    ),
    "torus_2d": _torus(2),
    "torus_3d": _torus(3),
    "ring": _torus(1),
}


class TopologyResult(Result):
    """What `TopologyModel.solve` answers. Every field broadcasts."""

    effective_bw = Field("effective_bytes_per_s", "Of one node when every node talks to the other half, one direction")
    bisection_bw = Field("bisection_bytes_per_s", "All links through the worst even halving, one direction")
    bisection_bw_fraction = Field("bisection_share", "That over what all nodes of one half could send")
    hops_avg = Field("mean_hops", "Links between two nodes on average, on a shortest way")


@dataclass(frozen=True, slots=True)
class TopologyModel:
    """Bisection and distance of usual topologies, each with its source in `SHAPES`."""

    def solve(
        self, fabric: Any, topology: str = "fat_tree", num_nodes: Any = 64, *, oversubscription: Any = 1.0
    ) -> TopologyResult:
        """`fabric`: bandwidth of one link in one direction (`"50 GB/s"`, a pint quantity, bytes a second).

        num_nodes: that the network joins. oversubscription: how much more the nodes could send than the upper levels of a
        tree carry. Raises: UnknownNameError, InvalidInputError.
        """
        if topology not in SHAPES:
            raise unknown("topology", topology, SHAPES)
        shape = SHAPES[topology]
        link = np.asarray(real("fabric", to_si("fabric", fabric, "byte/s"), least=1e-9))
        nodes = np.asarray(whole("num_nodes", num_nodes, least=2))
        share = shape.cut(nodes) / real("oversubscription", oversubscription, least=1.0)
        return TopologyResult(
            values={
                "effective_bytes_per_s": link * share,
                "bisection_bytes_per_s": link * share * nodes / 2,
                "bisection_share": share,
                "mean_hops": shape.hops(nodes),
            },
            about={"topology": topology},
            sources=({"title": shape.source, "url": "", "date": ""},),
            not_modelled=("routing that is not perfect", "traffic of others", "latency of switches"),
        )
