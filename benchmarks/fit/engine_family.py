"""The fit of one engine on one kind of machine, with its errors on groups left out, as a record of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.fit.engine_fit import Held, campaign, figures, is_prefill, log_errors, names_of, quantiles
from benchmarks.fit.engine_parts import Parts
from waferline.arrays import FloatArray
from waferline.fit import sweep_weights

FEWEST_ROWS = 8
_MUCH_WORSE = 1.5
_ONE_GROUP_WIDENING = 2.0  # where no group can be left out: own residuals, twice as far


@dataclass(frozen=True)
class Family:
    """The fit of one engine on one vendor's machines of one kind."""

    engine: str
    vendor: str
    parts: Parts
    constants: dict[str, float]
    errors: FloatArray
    held: tuple[Held, ...]

    def residual(self) -> dict[str, list[float]]:
        """Quantiles by pass, over all rows each predicted without its own model, without its own machine and without its lab.

        A sweep counts once, however many rows it has: rows of one sweep miss together.
        """
        out = {}
        prefill = is_prefill(self.parts)
        weights = sweep_weights(self.parts.labels(campaign)) ** 2
        for name, rows in (("prefill", prefill), ("decode", ~prefill)):
            held = [
                h.errors[rows]
                for h in self.held
                if h.by != "engine" and np.isfinite(h.errors[rows]).sum() >= FEWEST_ROWS
            ]
            if held:
                out[name] = quantiles(held, weights=weights[rows])
            elif rows.sum() >= FEWEST_ROWS:
                out[name] = quantiles([self.errors[rows]], _ONE_GROUP_WIDENING)
        return out

    @property
    def helps(self) -> bool:
        """False where every split predicts rows left out worse by half than constants that were fitted to nothing."""
        held = [figures(h.errors)[0] for h in self.held if h.groups > 1]
        neutral = {name: start for name, (start, _) in names_of(self.engine).items()}
        return not held or min(held) < _MUCH_WORSE * figures(log_errors(self.parts, neutral))[0]

    def entry(self) -> dict[str, Any]:
        median, p90, _bias = figures(self.errors)
        card: dict[str, Any] = {"rows": len(self.parts.rows), "median": round(median, 3), "p90": round(p90, 3)}
        for h in self.held:
            if h.groups > 1:
                m, p, _ = figures(h.errors)
                card[f"left_out_by_{h.by}"] = {"groups": h.groups, "median": round(m, 3), "p90": round(p, 3)}
        fitted = {k: float(f"{v:.4g}") for k, v in self.constants.items()}
        card["seen"] = sorted(set(self.parts.labels(lambda r, q: q.hardware).tolist()))
        return {"layer_s": 0.0, **fitted, "residual": self.residual(), "fit": card}
