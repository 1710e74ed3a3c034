"""The inner kernels, generated: one tile row (16 rows x all columns) times N activation columns.

`tile_kernel` returns a Numba intrinsic whose code is a Python loop unrolled over the N columns and over the planes of the
format. Everything the processor does 16 rows at a time; nothing is ever summed across lanes. Activations arrive packed by
column block (see `activations.py`), so that one base pointer and constant offsets feed the broadcast operand of every
multiply.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from waferline.kernels.cpu.exact_body import exact_body, float_body
from waferline.kernels.cpu.int8_body import int8_body
from waferline.kernels.cpu.isa import Isa
from waferline.kernels.cpu.parts import Operands
from waferline.kernels.cpu.simd import Lanes, data_pointer
from waferline.kernels.cpu.tiles import FloatTile, Tile


def tile_kernel(tile: Tile, columns: int, exact: bool, isa: Isa) -> Any:
    """The intrinsic `kernel(weights, w_at, blocks, x, sums, sums16, scales, x_block, y, y_at, y_step, ahead)`.

    All offsets are bytes except `x_block` (blocks). Writes y[n] (16 f32 at y_at + n*y_step) for n < columns.
    """
    if isinstance(tile, FloatTile):
        body = float_body(tile, columns)
    else:
        body = exact_body(tile, columns, isa) if exact else int8_body(tile, columns, isa)

    def kernel(
        typing_context: Any, weights: Any, w_at: Any, blocks: Any, x: Any, sums: Any, sums16: Any, scales: Any,
        x_block: Any, y: Any, y_at: Any, y_step: Any, ahead: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
            lanes = Lanes(builder)
            base = [data_pointer(context, builder, signature.args[i], a[i]) for i in (0, 3, 4, 5, 6, 8)]
            row = builder.gep(base[0], [a[1]])
            ops = Operands(row, a[2], base[1], base[2], base[3], base[4], a[7], base[5], a[9], a[10], a[11])
            for n, value in enumerate(body(lanes, ops)):
                lanes.store(value, ops.y, builder.add(ops.y_at, builder.mul(ops.y_step, lanes.i64(n))))
            return context.get_dummy_value()

        n = types.intp
        return types.void(weights, n, n, x, sums, sums16, scales, n, y, n, n, n), code

    return intrinsic(kernel)
