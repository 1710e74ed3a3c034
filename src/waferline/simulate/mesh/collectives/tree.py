"""Chain and K-tree reductions with the root's broadcast, as instructions on every line of an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from waferline.arrays import IntArray
from waferline.machines.mesh import MeshParameters
from waferline.machines.mesh_costs.collectives import RECEIVE_CYCLES, word_cycles
from waferline.simulate.mesh.engine import state as st
from waferline.simulate.mesh.engine.program import Program
from waferline.simulate.mesh.lines import Cores, route_multicast, route_stream


@dataclass(frozen=True, slots=True)
class Chain:
    """Positions on a line that reduce towards `members[root]`, from both ends."""

    members: IntArray
    root: int


@dataclass(frozen=True, slots=True)
class Vector:
    """Where a vector lies in every core: first element, element count."""

    addr: int
    count: int


def tree_levels(cores: int, groups: Sequence[int] = (), root: int | None = None) -> list[list[Chain]]:
    """The chains of each level of a K-tree over positions 0..cores-1 (K = len(groups) + 1).

    Without `root` every chain ends in its middle; with it, the tree ends at that position.
    """
    levels: list[list[Chain]] = []
    members, at = np.arange(cores), root
    for size in (*groups, None):
        group = len(members) if size is None else min(int(size), len(members))
        digit = group // 2 if at is None else at % group
        chains = [members[i : i + group] for i in range(0, len(members), group)]
        level = [Chain(chain, min(digit, len(chain) - 1)) for chain in chains]
        levels.append(level)
        members = np.array([chain.members[chain.root] for chain in level])
        at = None if at is None else at // group
    return levels


def tree_root(levels: list[list[Chain]]) -> int:
    """Position that ends with the sum."""
    last = levels[-1][0]
    return int(last.members[last.root])


def add_tree_reduce(
    program: Program, p: MeshParameters, cores: Cores, axis: str, levels: list[list[Chain]], vector: Vector, colour: int
) -> int:
    """Append the reduction of `vector` on every line; two colours per level from `colour` on. Next free colour."""
    for level in levels:
        for chain in level:
            add_chain(program, p, cores, axis, chain, vector, colour)
        colour += 2
    return colour


def add_chain(
    program: Program, p: MeshParameters, cores: Cores, axis: str, chain: Chain, vector: Vector, colour: int
) -> None:
    """Append one chain's reduction of `vector` on every line of `cores`, on `colour` and the next."""
    for arm in _arms(chain):
        for member, following in zip(arm, [*arm[1:], chain.root], strict=True):
            source, target = int(chain.members[member]), int(chain.members[following])
            route_stream(program, cores, axis, source, target, colour + _sending_colour(member, chain.root))
    _add_arms(program, p, cores, chain, vector, colour)
    _add_root(program, p, cores, chain, vector, colour)


def add_broadcast(
    program: Program, p: MeshParameters, cores: Cores, axis: str, root: int, vector: Vector, colour: int
) -> int:
    """Append the multicast of `vector` from position `root` on every line; one colour. Next free colour."""
    if cores.shape[1] > 1:
        route_multicast(program, cores, axis, root, colour)
        program.add(cores[:, root], st.SEND, c_out=colour, addr=vector.addr, count=vector.count, ticks=word_cycles(p))
        others = np.delete(cores, root, axis=1).ravel()
        program.add(others, st.RECV, c_in=colour, **_receive(p, vector), latency=RECEIVE_CYCLES)
    return colour + 1


def _receive(p: MeshParameters, vector: Vector) -> dict[str, float]:
    return {"addr": vector.addr, "count": vector.count, "ticks": word_cycles(p)}


def _process_cycles(p: MeshParameters) -> float:
    return p.stage_cycles - 2 * p.ramp_cycles


def _sending_colour(member: int, root: int) -> int:
    """Members left of the root alternate two colours, those right of it too, and the root hears one of each."""
    return member % 2 if member < root else (member + 1) % 2


def _arms(chain: Chain) -> list[list[int]]:
    """Member numbers from each end towards the root (root excluded), the shorter arm first."""
    left, right = list(range(chain.root)), list(range(len(chain.members) - 1, chain.root, -1))
    return sorted((arm for arm in (left, right) if arm), key=len)


def _add_arms(program: Program, p: MeshParameters, cores: Cores, chain: Chain, vector: Vector, colour: int) -> None:
    for arm in _arms(chain):
        for place, member in enumerate(arm):
            at, out = cores[:, chain.members[member]], colour + _sending_colour(member, chain.root)
            if place == 0:
                program.add(at, st.SEND, c_out=out, **_receive(p, vector))
            else:
                heard = colour + _sending_colour(arm[place - 1], chain.root)
                latency = _process_cycles(p)
                program.add(at, st.RECV_ADD_SEND, c_in=heard, c_out=out, **_receive(p, vector), latency=latency)


def _add_root(program: Program, p: MeshParameters, cores: Cores, chain: Chain, vector: Vector, colour: int) -> None:
    at = cores[:, chain.members[chain.root]]
    for arm in _arms(chain):
        heard = colour + _sending_colour(arm[-1], chain.root)
        program.add(at, st.RECV_ADD, c_in=heard, **_receive(p, vector), latency=_process_cycles(p))
