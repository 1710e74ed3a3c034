"""`ParallelismOptimizer`: the degrees that train, or serve, a model fastest on a fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waferline.errors import InvalidInputError, WaferlineError
from waferline.systems.distributed import DistributedModel
from waferline.systems.fleet import as_fleet

_SHOWN = 10  # candidates that an answer carries


@dataclass(frozen=True, slots=True)
class ParallelismResult:
    """The fastest degrees that fit, and those behind it: tp, pp, dp, mfu, tokens a second, seconds a step, each a row."""

    best_config: Mapping[str, Any]
    best_mfu: float
    best_throughput: float
    best_step_time: float
    search_space_size: int
    top_candidates: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ParallelismOptimizer:
    """Every tp and pp that divide the fleet, asked of `DistributedModel`; those that fit, fastest first."""

    def solve(
        self,
        model: Any,
        fleet: Any,
        batch_size: int,
        precision: str = "bf16",
        *,
        max_tp: int | None = None,
        max_pp: int | None = None,
        **options: Any,
    ) -> ParallelismResult:
        """The best degrees for a step of `batch_size` sequences. Other options are those of `DistributedModel.solve`.

        Raises: InvalidInputError naming the reason of the last refusal when no degrees run it.
        """
        group = as_fleet(fleet)
        degrees = [n for n in range(1, group.devices + 1) if group.devices % n == 0]
        pairs = [
            (tp, pp)
            for tp in degrees
            for pp in degrees
            if group.devices % (tp * pp) == 0
            and tp <= (max_tp or group.device.reach("scale-up"))
            and pp <= (max_pp or group.devices)
        ]
        rows, refusal = [], "none fits the memory"
        for tp, pp in pairs:
            try:
                r = DistributedModel().solve(model, group, batch_size, precision, tp_size=tp, pp_size=pp, **options)
            except WaferlineError as error:
                refusal = str(error)
                continue
            if bool(r["feasible"]):
                rows.append({
                    "tp": tp, "pp": pp, "dp": group.devices // (tp * pp), "mfu": float(r["mfu"]),
                    "tokens_per_s": float(r["total_tokens_per_s"]), "step_s": float(r["step_time_s"]),
                })  # fmt: skip
        if not rows:
            raise InvalidInputError(f"no degrees train this model on {group.title}: {refusal}")
        rows.sort(key=lambda row: -row["tokens_per_s"])
        best = rows[0]
        config = {name: best[name] for name in ("tp", "pp", "dp")}
        return ParallelismResult(
            config, best["mfu"], best["tokens_per_s"], best["step_s"], len(pairs), tuple(rows[:_SHOWN])
        )
