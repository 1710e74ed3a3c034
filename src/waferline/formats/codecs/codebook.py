"""ggml's codebook formats IQ1, IQ2 and IQ3: decoding only.

Their lattices (256 to 2048 vectors of eight weights) live in the `gguf` package, which decodes them; encoding well
needs activation statistics and a nearest-lattice search, so these formats are read and never written.
"""

from __future__ import annotations

import numpy as np

from .record import F16_MAX, F32, U8, Codec, block_codec

BLOCK = 256
_BLOCK_BYTES = {"iq1_s": 50, "iq1_m": 56, "iq2_xxs": 66, "iq2_xs": 74, "iq2_s": 82, "iq3_xxs": 98, "iq3_s": 110}


def _codec(name: str, block_bytes: int) -> Codec:
    def decode(data: U8) -> F32:
        import gguf  # its quants module is large: loaded only when such a tensor is read

        values = gguf.quants.dequantize(np.ascontiguousarray(data), gguf.GGMLQuantizationType[name.upper()])
        return np.asarray(values, np.float32)

    return block_codec(
        name,
        BLOCK,
        block_bytes,
        None,
        decode,
        max_abs=F16_MAX,
        about=f"ggml {name.upper()}: lattice codebook, decode only",
        ggml=name.upper(),
    )


CODECS: tuple[Codec, ...] = tuple(_codec(name, size) for name, size in _BLOCK_BYTES.items())
