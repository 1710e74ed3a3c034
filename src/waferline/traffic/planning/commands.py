"""Command lines of engines for a plan, from the flags of `catalog/command_lines.yaml`. MODEL: path or hub name of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waferline.catalog.yaml_file import read_packaged
from waferline.traffic.options import ServerOptions
from waferline.traffic.planning.candidate import Candidate


def commands(plan: Candidate, options: ServerOptions, longest: int) -> dict[str, str]:
    """By engine that runs on the machine, the line that starts ONE replica (where prefill is apart, one of each part).

    longest: tokens that a sequence may grow to.
    """
    said: dict[str, Any] = {
        "tp": plan.tp, "pp": plan.pp, "dp": plan.dp, "ep": plan.ep, "longest": longest, "kv": plan.kv,
        "slots": int(plan.running), "context": longest * int(plan.running), "made": plan.precision,
        "max_num_seqs": options.max_num_seqs, "max_num_batched_tokens": options.max_num_batched_tokens,
        "no_prefix": options.prefix_caching is False,
    }  # fmt: skip
    lines = {}
    for name, row in read_packaged("command_lines.yaml")["engines"].items():
        servers = name != "llama.cpp"
        if (servers and plan.device.kind != "gpu") or plan.device.vendor.lower() not in row.get(
            "vendor", plan.device.vendor.lower()
        ):
            continue
        if not servers and plan.dp > 1:
            continue
        here = {**said, "tp": plan.tp * plan.dp} if row.get("tp_counts_dp") else said
        if not options.prefill_replicas:
            lines[name] = _line(row, here)
        elif "apart" in row:
            for part, n in (
                ("prefill", options.prefill_replicas),
                ("decode", plan.replicas - options.prefill_replicas),
            ):
                lines[f"{name}, {part} ({n} of it)"] = f"{_line(row, here)} {row['apart'][part]}"
    return lines


def _line(row: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    parts, apart = [str(row["start"])], []
    for what, value in said.items():
        if what in ("made", "kv"):
            value = row.get(what, {}).get(value) if what in row else value if what == "kv" else None
        if value is None or value is False or (what in ("tp", "pp", "dp", "ep") and value == 1):
            continue
        if what in row["flags"]:
            parts.append(str(row["flags"][what]).format(value))
        elif what in row.get("not_flags", {}):
            apart.append(str(row["not_flags"][what]).format(value))
    if apart:
        parts.append(f"--config FILE  # with {', '.join(apart)}")
    return " ".join(parts)
