"""Which instructions a kernel may use, asked of Numba's own target and not of the host.

Numba compiles for the host unless `NUMBA_CPU_NAME`/`NUMBA_CPU_FEATURES` say otherwise; a kernel that asked the host could
then emit an instruction its own target forbids. `WAFERLINE_ISA` forces a *lower* row of the table, never a higher one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from waferline.errors import UnsupportedError, unknown


@dataclass(frozen=True, slots=True)
class Isa:
    """One way of multiplying bytes. `needs` are LLVM feature names; `signed_bytes` is true where an 8-bit weight must be
    made signed before the multiplication because the instruction saturates 16-bit pair sums."""

    name: str
    needs: frozenset[str]
    signed_bytes: bool
    what: str


# Best first. The last row needs nothing and is plain LLVM IR.
ISAS: tuple[Isa, ...] = (
    Isa("avx512-vnni", frozenset({"avx512f", "avx512bw", "avx512vl", "avx512vnni"}), False, "vpdpbusd on 512 bits"),
    Isa("avx512-bw", frozenset({"avx512f", "avx512bw", "avx512vl"}), True, "vpmaddubsw + vpmaddwd on 512 bits"),
    Isa("avx2", frozenset({"avx2", "fma"}), True, "vpmaddubsw + vpmaddwd on 256 bits"),
    Isa("neon-dotprod", frozenset({"dotprod"}), True, "sdot on 128 bits"),
    Isa("portable", frozenset(), False, "LLVM IR that every target has"),
)


def target_features() -> frozenset[str]:
    """The LLVM features Numba compiles for, without the leading plus (`avx512vnni`, `fma`, `dotprod`, ...)."""
    from numba.core.registry import cpu_target

    features = cpu_target.target_context.codegen().magic_tuple()[2]
    return frozenset(f[1:] for f in features.split(",") if f.startswith("+"))


@cache
def current_isa() -> Isa:
    """The best row of `ISAS` that the target has (or the one `WAFERLINE_ISA` names, if the target has it).

    Raises `UnknownNameError` for a name that is no row and `UnsupportedError` for a row the target lacks.
    """
    have = target_features()
    usable = {isa.name: isa for isa in ISAS if isa.needs <= have}
    wanted = os.environ.get("WAFERLINE_ISA", "")
    if not wanted:
        return next(iter(usable.values()))
    if wanted not in {isa.name for isa in ISAS}:
        raise unknown("instruction set", wanted, [isa.name for isa in ISAS], where="WAFERLINE_ISA")
    if wanted not in usable:
        raise UnsupportedError(
            f"this target has no {wanted}", where="WAFERLINE_ISA", hint="usable: " + ", ".join(usable)
        )
    return usable[wanted]
