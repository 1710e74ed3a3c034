"""Matrix products on a mesh of cores: MeshGEMM beside Cannon and SUMMA, and where the traffic was."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial

from waferline.app.page import Page
from waferline.app.question import Control, count
from waferline.errors import InvalidInputError
from waferline.machines.mesh import load_parameters
from waferline.report.mesh_picture import core_maps, film, moves
from waferline.report.table import Column, Table
from waferline.simulate.mesh.gemm import simulate_gemm
from waferline.simulate.mesh.operators import matrix_product
from waferline.simulate.mesh.result import MeshResult
from waferline.text import number
from waferline.workloads.spec import ModelSpec

_ALGORITHMS = ("meshgemm", "cannon", "summa")
_MOST_SIDE, _MOST_SIZE = 32, 1024
CONTROLS = (
    Control("size", "Side of the matrices", "count", "256"),
    Control("grid", "Cores a side", "count", "16"),
    Control("algorithm", "Algorithm shown", "choice", "meshgemm", _ALGORITHMS),
)

_PYTHON = """from waferline.machines.mesh import load_parameters
from waferline.simulate.mesh.gemm import simulate_gemm
from waferline.simulate.mesh.operators import matrix_product

product = matrix_product({size}, {size}, {size}, "fp16")
result = simulate_gemm(product, load_parameters("wse2"), {side}, {side}, algorithm="{algorithm}", data=False)"""


@lru_cache(maxsize=32)
def _run(algorithm: str, size: int, side: int) -> MeshResult:
    op = matrix_product(size, size, size, "fp16")
    return simulate_gemm(op, load_parameters("wse2"), side, side, fidelity="event", algorithm=algorithm, data=False)


def answer(values: Mapping[str, str], _: ModelSpec | None) -> Page:
    """One product by three algorithms, event by event."""
    size, side = count("size", values["size"]) or 256, count("grid", values["grid"]) or 16
    if side > _MOST_SIDE or size > _MOST_SIZE:
        raise InvalidInputError(f"a page simulates up to {_MOST_SIDE} cores a side and matrices of {_MOST_SIZE}")
    if values["algorithm"] not in _ALGORITHMS:
        raise InvalidInputError(f"algorithms are {', '.join(_ALGORITHMS)}, not '{values['algorithm']}'")
    runs = {name: _run(name, size, side) for name in _ALGORITHMS}
    shown = runs[values["algorithm"]]
    fastest = min(runs, key=lambda name: runs[name].cycles)
    rows = [(name, run.cycles, run.cycles / runs[fastest].cycles, run.steps) for name, run in runs.items()]
    columns = ("algorithm", Column("cycles", number), Column("of the fastest", ".2f"), Column("steps", number))
    maps = core_maps(shown)
    return Page(
        sentence=f"{fastest} is fastest, with {runs[fastest].cycles:,.0f} cycles.",
        charts=() if maps is None else (maps,),
        film=partial(film, shown) if moves(shown) else None,
        blocks=(Table(f"{size}×{size} matrices on {side}×{side} cores", columns, rows),),
        cli=f"waferline simulate mesh gemm {size}x{size}x{size} --grid {side}x{side} --algorithm {values['algorithm']}",
        python=_PYTHON.format(size=size, side=side, algorithm=values["algorithm"]),
        data=shown,
    )
