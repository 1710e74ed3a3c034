"""A published decoder of Q4_K blocks that is wrong in five places, kept as a negative test of the right one.

It reads six-bit scales as one contiguous run of scale, scale, minimum, minimum; subtracts 32 from them as another format
does; adds the minimum instead of subtracting it; and takes neighbouring weights from the two halves of a byte. d and
dmin are given to it correctly. Source: the behaviour described for Inference-X's q4_gemm_wse.c, written anew.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK_BYTES, BLOCK_WEIGHTS = 144, 256
_SUB_BLOCKS, _SIX_BITS, _WRONG_BIAS = 8, 6, 32


def decode_misread(blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Weights (blocks, 256) as the wrong decoder makes them; `blocks` is (blocks, 144)."""
    d, minimum = blocks[:, :4].copy().view(np.float16).astype(np.float32).T
    fields = np.unpackbits(blocks[:, 4:16], axis=1, bitorder="little").reshape(len(blocks), -1, _SIX_BITS)
    six = fields @ (1 << np.arange(_SIX_BITS))  # 16 numbers a block, read contiguously
    quads = six.reshape(len(blocks), -1, 4)
    scales, minima = (quads[..., part].reshape(len(blocks), _SUB_BLOCKS) - _WRONG_BIAS for part in ([0, 1], [2, 3]))
    codes = blocks[:, 16:]
    nibbles = np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(blocks), _SUB_BLOCKS, -1)
    scaled = d[:, None] * scales
    weights = scaled[..., None] * nibbles + (minimum[:, None] * minima)[..., None]
    return np.asarray(weights.reshape(len(blocks), BLOCK_WEIGHTS), dtype=np.float32)
