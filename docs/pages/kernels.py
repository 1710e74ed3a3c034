"""Writes `docs/kernels.md`: how the CPU kernels work, and the committed figures beside llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.kernels.operators import WORKING_SET_BYTES

from docs.pages.markdown import table, write
from waferline.kernels.cpu.tiles import ROWS, TILES, QuantTile

_TILE = TILES["Q4_K"]
assert isinstance(_TILE, QuantTile)
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

_DESIGN = """\
All of it is Python: Numba compiles the loops, and a small layer of LLVM vectors (`kernels/cpu/simd.py`) holds sixteen 32-bit
lanes in a variable. No compiler is needed where it runs, and compiled code is kept on disk.
"""

_PARTS = (
    (
        "weights",
        "repacked once at load into tiles of 16 rows: one lane is one row, and nothing is ever summed across lanes (`tiles.py`)",
    ),
    (
        "activations",
        "int8 with a scale per 256 or 32 columns, as in llama.cpp; `exact=True` keeps f32 (`activations.py`)",
    ),
    (
        "a few columns",
        "codes are unpacked as they are multiplied with `vpdpbusd` (or AVX2, NEON, plain LLVM); the next tile is asked for early "
        "(`int8_body.py`)",
    ),
    (
        "16 columns and more",
        "AMX, where the processor has it: each sub-block's scale is multiplied into its codes, scale x code = 128 x high + low, "
        "and two tile products of signed bytes sum 256 columns exactly (`wide.py`)",
    ),
    (
        "attention",
        "keys in tiles of 16 tokens, four queries and two tiles at once, f32 sums on an f16 or int8 cache (`attention.py`)",
    ),
    ("a token", "one compiled function from the first norm to the logits (`runner/decode.py`)"),
)

_CHECKS = """\
Every product agrees with NumPy in f64 on the same rounded input within 1e-6 (`tests/kernels`), tiles and vectors bit for bit;
`WAFERLINE_ISA` forces a lesser instruction set. GPU kernels (Triton: Q4_K, INT4, FP8, decode attention, resident solve) are
checked in Triton's interpreter and compile for sm_80 and sm_90; no GPU has timed them yet, so no speed is claimed.
"""


def _operator(row: Mapping[str, Any]) -> list[str]:
    case = row["case"]
    name = f"{case['format']} {case['rows']}x{case['cols']}{', f32 activations' if case['exact'] else ''}"
    share, least_share, ratio, least = row["share"], case["least_share"], row["ratio"], case["least_ratio"]
    return [
        name,
        str(case["batch"]),
        str(case["threads"]),
        f"{row['bytes_per_s'] / 1e9:.1f}",
        f"{share:.0%}" if case["batch"] <= 12 else "",
        _aim(share, least_share, f"{least_share:.0%}" if least_share else ""),
        f"{row['macs_per_s'] / 1e9:.0f}",
        *(f"{s / row['seconds']:.2f}" if (s := row["peers_seconds"].get(kind)) else "" for kind in _PEERS),
        _aim(ratio, least, f"{least:g}" if least else ""),
    ]


_PEERS = ("CPU", "CPU_REPACK", "AMX")  # ggml's buffer types: as in the file, rearranged, rearranged for tiles


def _aim(value: float | None, least: float | None, text: str) -> str:
    if least is None or value is None:
        return ""
    return f"{text}, met" if value >= least else f"{text}, **missed**"


_COLUMNS = (
    "product", "columns", "threads", "GB/s of the file's bytes", "of a plain read", "aim", "GMAC/s", "x llama.cpp",
    "x its rearranged", "x its AMX", "aim, to the fastest",
)  # fmt: skip


def _machine(path: Path) -> Iterator[str]:
    data = json.loads(path.read_text())
    about = data["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in about["versions"].items() if v)
    yield f"## {about['cpu']}, {about['cores']} cores, {about['isa']}"
    yield (
        f"{about['date']}; {versions}. Load average {about['load_average'][0]:.1f} before and "
        f"{about['load_average_after'][0]:.1f} after. llama.cpp: {about['llama_cpp_build']}."
    )
    yield (
        "Interleaved in one process, medians; one thread in CPU time, more in wall time; weights come from memory "
        f"({WORKING_SET_BYTES / 1e9:g} GB in turn), and an aim is held against the fastest of llama.cpp's kernels. Packed "
        f"Q4_K tiles are {_TILE.tile_bytes / (ROWS * _TILE.source_bytes) - 1:.1%} larger than the file."
    )
    yield table(_COLUMNS, map(_operator, data["operators"]))
    for isa, rows in data.get("lesser", {}).items():
        yield f"With {isa} only (llama.cpp keeps all it has):"
        yield table(_COLUMNS, map(_operator, rows))
    yield "A random Q4_K model of 1.1 B parameters, prompt of 512 tokens, tokens a second:"
    yield table(
        ("threads", "prefill", "llama.cpp", "ratio, aim 1.5", "decode", "llama.cpp", "ratio, aim 1.6"),
        map(_model, data["models"]),
    )
    yield "Table look-up at 1 to 4 bits beside unpacking (a study), weights a second:"
    yield table(("kernel", "weights/s"), ((r["kernel"], f"{r['weights_per_s'] / 1e9:.1f} G") for r in data["look_up"]))


def _model(row: Mapping[str, Any]) -> list[str]:
    cells = [str(row["threads"])]
    for phase in ("prefill", "decode"):
        ours, peer = row[f"{phase}_tokens_per_s"], row[f"peer_{phase}_tokens_per_s"]
        cells += [f"{ours:.1f}", "" if peer is None else f"{peer:.1f}", "" if peer is None else f"{ours / peer:.2f}"]
    return cells


def _real(told: Mapping[str, Any]) -> Iterator[str]:
    """A real model beside llama.cpp: tokens and logits; speeds only as they were, on a machine that others used."""
    rows = told["texts"]
    same, of = sum(r["same"] for r in rows), sum(r["tokens"] for r in rows)
    margins = [m for r in rows for m in r["margins"]]
    rates = "; ".join(
        f"{phase} {rate['ours']:.1f} and {rate['llama.cpp']:.1f}" for phase, rate in told["tokens_per_s"].items()
    )
    yield f"## A real model: {told['file']}"
    yield (
        f"{told['date']}, {len(rows)} prompts, {of} greedy tokens of llama.cpp fed to both. The best token is the same in "
        f"{same} of {of}; in the others llama.cpp preferred its own by {max(margins, default=0.0):.2f} logits at most. Logits "
        f"correlate by {min(r['correlation_least'] for r in rows):.4f} at least (activations are rounded to eight bits in other "
        f"blocks). Tokens/s of {told['threads']} thread, ours and a build of llama.cpp without AVX-512 and AMX "
        f"({told['llama.cpp'].rstrip(' |')}), at a load average of {told['load_average']:.1f} on {told['cores']} cores, which "
        f"makes them no measurement: {rates}. `python -m benchmarks.kernels.real FILE.gguf --write` makes this anew."
    )


def build() -> list[Path]:
    """Write the page from the committed results."""
    parts = ["# CPU kernels beside llama.cpp", _DESIGN.rstrip(), table(("what", "how"), _PARTS), _CHECKS.rstrip()]
    for path in sorted(RESULTS.glob("kernels-*.json")):
        parts += _machine(path)
    parts += _real(json.loads((RESULTS / "real_model.json").read_text(encoding="utf-8")))
    parts.append(
        "`python -m benchmarks.kernels` prints these tables on any machine (with `llama-cpp-python` installed, the peer's columns "
        "too); `--save` writes the data, `python -m docs.build kernels` this page. GCC before 12.4 drops the stores that AMX tile "
        "configurations are made of: build llama.cpp for such a processor with `-fno-tree-dse -fno-dse`, or it stops with a fault."
    )
    return [write("kernels.md", "\n\n".join(parts))]
