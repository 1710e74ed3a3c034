"""The same kernels with some of the processor's instructions switched off: what an older one would run.

Numba chooses its target when it starts, so each set runs in a process of its own (`python -m benchmarks.kernels.lesser`
prints its rows as JSON); llama.cpp keeps all the instructions it was built with.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from waferline.kernels.cpu.isa import ISAS, current_isa

# Environment of each set. Numba's own switches, so that the compiler cannot use the rest either.
_AVX2 = "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+sse4.1,+sse4.2"
SETS: dict[str, dict[str, str]] = {
    "avx512-vnni": {"WAFERLINE_ISA": "avx512-vnni"},
    "avx2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": _AVX2},
}


def lesser_rows(rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Rows by instruction set, of those sets that are less than what this processor has."""
    order = [isa.name for isa in ISAS]
    found = {}
    for name in (n for n in SETS if order.index(n) > order.index(current_isa().name)):
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.kernels.lesser", str(rounds)],
            env={**os.environ, **SETS[name]}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        printed = json.loads(run.stdout)
        assert printed["isa"] == name, printed["isa"]
        found[name] = printed["rows"]
    return found


def main() -> None:
    from benchmarks.kernels.cases import lesser_cases
    from benchmarks.kernels.ggml import Ggml
    from benchmarks.kernels.llama import llama_cpp_missing
    from benchmarks.kernels.operators import run_case

    ggml = None if llama_cpp_missing() else Ggml()
    rows = [run_case(case, ggml, rounds=int(sys.argv[1])).to_json() for case in lesser_cases(current_isa().name)]
    print(json.dumps({"isa": current_isa().name, "rows": rows}))


if __name__ == "__main__":
    main()
