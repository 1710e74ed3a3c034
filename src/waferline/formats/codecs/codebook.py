"""ggml's codebook formats IQ1, IQ2 and IQ3: decoding only.

Their lattices (256 to 2048 vectors of eight weights) live in the `gguf` package, which decodes them; encoding well
needs activation statistics and a nearest-lattice search, so these formats are read and never written.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from waferline.formats.codecs.record import F32, U8, Codec, ggml_codec

BLOCK = 256
_BLOCK_BYTES = {"iq1_s": 50, "iq1_m": 56, "iq2_xxs": 66, "iq2_xs": 74, "iq2_s": 82, "iq3_xxs": 98, "iq3_s": 110}


def _decode(data: U8, name: str) -> F32:
    import gguf  # its quants module is large: loaded only when such a tensor is read

    values = gguf.quants.dequantize(np.ascontiguousarray(data), gguf.GGMLQuantizationType[name.upper()])
    return np.asarray(values, np.float32)


CODECS: tuple[Codec, ...] = tuple(
    ggml_codec(name, BLOCK, size, None, partial(_decode, name=name), "lattice codebook, decode only")
    for name, size in _BLOCK_BYTES.items()
)
