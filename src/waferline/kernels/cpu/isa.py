"""Which instructions a kernel may use, asked of Numba's own target and not of the host.

Numba compiles for the host unless `NUMBA_CPU_NAME`/`NUMBA_CPU_FEATURES` say otherwise; a kernel that asked the host could
then emit an instruction its own target forbids. `WAFERLINE_ISA` forces a *lower* row of the table, never a higher one.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from functools import cache

from waferline.errors import UnsupportedError, unknown


@dataclass(frozen=True, slots=True)
class Isa:
    """One way of multiplying bytes. `needs` are LLVM feature names; `byte_dot` names the byte dot product (`dot.py`);
    `signed_bytes` is true where an 8-bit weight must be made signed before the multiplication because the instruction
    saturates 16-bit pair sums; `tiles` where whole tiles are multiplied at once (`amx.py`)."""

    name: str
    needs: frozenset[str]
    byte_dot: str
    signed_bytes: bool
    what: str
    tiles: bool = False


# Best first. The last row needs nothing and is plain LLVM IR.
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl"})
_VNNI = _AVX512 | {"avx512vnni"}
ISAS: tuple[Isa, ...] = (
    Isa(
        "amx-int8",
        _VNNI | {"amx-tile", "amx-int8", "amx-bf16"},
        "vpdpbusd",
        False,
        "tiles of 16 x 64 bytes; else as below",
        True,
    ),
    Isa("avx512-vnni", _VNNI, "vpdpbusd", False, "vpdpbusd on 512 bits"),
    Isa("avx512-bw", _AVX512, "maddubs512", True, "vpmaddubsw + vpmaddwd on 512 bits"),
    Isa("avx2", frozenset({"avx2", "fma"}), "maddubs256", True, "vpmaddubsw + vpmaddwd on 256 bits"),
    Isa("neon-dotprod", frozenset({"dotprod"}), "sdot", True, "sdot on 128 bits"),
    Isa("portable", frozenset(), "plain", False, "LLVM IR that every target has"),
)
# Linux keeps tile registers from a process until it asks: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18


@cache
def tiles_permitted() -> bool:
    """Ask the system for the tile registers, for all threads of this process."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)) == 0


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
    usable = {isa.name: isa for isa in ISAS if isa.needs <= have and (not isa.tiles or tiles_permitted())}
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
