"""How a published run drafted tokens: the technique of `--with` that its command means, and the tokens that a cycle yields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from waferline.catalog.yaml_file import read_file
from waferline.evidence.request import Refusal
from waferline.evidence.run import Run
from waferline.predict.techniques.speculative import accepted_tokens

_VARIANT = "| variant:"
_PAGE_WIDE = "Comparison of benchmark results"  # the command is the one that a page recommends, not the run's own
_SECTION = re.compile(r"speculative decoding|\bmtp\b|eagle|n-?gram", re.IGNORECASE)
_METHOD = re.compile(r'"method": ?"([\w-]+)"|--speculative-algorithm[ =](\w+)')
_NUMBERS = {
    "tokens": re.compile(r'"num_speculative_tokens": ?(\d+)|--speculative-num-steps[ =](\d+)'),
    "verified": re.compile(r"--speculative-num-draft-tokens[ =](\d+)"),
}
_TREE = re.compile(r"--speculative-eagle-topk[ =](\d+)")
_DRAFT = "draft-model-path"


@cache
def _methods() -> Mapping[str, Any]:
    """What is known of each method: `data/techniques.yaml`."""
    return read_file(Path(__file__).parent / "data" / "techniques.yaml")["techniques"]


# Words of commands → the method. EAGLE without a draft model runs the layer that the model was trained with.
_CALLED = {
    "mtp": "mtp", "nextn": "mtp", "deepseek_mtp": "mtp", "qwen3_next_mtp": "mtp", "eagle": "eagle", "eagle3": "eagle3",
    "ngram": "ngram", "medusa": "medusa", "suffix": "suffix",
}  # fmt: skip


def technique_of(run: Run) -> tuple[str | None, str] | Refusal:
    """(technique, what was assumed) of a run; None for one that does not speculate."""
    if not _speculates(run):
        return None, ""
    command = _command(run)
    named = _METHOD.search(command) or _METHOD.search(run.cells.get("options") or "")
    word = (next(filter(None, named.groups())) if named else "mtp").lower()
    method = _CALLED.get(word)
    if method is None:
        return Refusal("speculative decoding", f"what '{word}' drafts with is not known")
    if method == "eagle" and named is not None and _DRAFT not in command:
        method = "mtp"
    known = _methods()[f"speculative-{method}"]
    stated = {name: _first(pattern, command) for name, pattern in _NUMBERS.items()}
    tokens, told = stated["tokens"], []
    if tokens is None:
        tokens = int(known["tokens"])
        told.append(f"{method} drafts {tokens} tokens in a cycle: not stated")
    rate = acceptance(float(known["accepted"]), int(known["tokens"]))
    told.append(f"{rate:.0%} of drafts accepted, as other runs of {method}".replace("%", " %", 1))
    technique = known["with"].partition(":")[0]
    more = ""
    if stated["verified"] is not None and (_first(_TREE, command) or 1) > 1:
        more = f",verified={stated['verified']}"
    return f"{technique}:tokens={tokens},acceptance={rate:.3g}{more}", "; ".join(told)


def acceptance(accepted: float, tokens: int) -> float:
    """The share of drafts that the model would have said, each by itself, of a cycle that yields `accepted` of `tokens` drafted."""
    from scipy.optimize import brentq

    return float(brentq(lambda rate: accepted_tokens(tokens, rate, None) - accepted, 0.0, 1.0))


def _speculates(run: Run) -> bool:
    """Whether this very run speculated; where its command is that of a whole page, its section says so."""
    options, section = run.cells.get("options") or "", (run.cells.get("notes") or "").partition(";")[0]
    if _PAGE_WIDE in options:
        return bool(_SECTION.search(section)) or (
            "Optimized" in run.cells.get("notes", "") and "--speculative" in options
        )
    return "speculative" in options or bool(run.cells.get("speculative"))


def _command(run: Run) -> str:
    """The command of the run: its variant's own words, where they say how it drafts, before the common ones."""
    common, _, variant = (run.cells.get("options") or "").partition(_VARIANT)
    return variant if _METHOD.search(variant) else common


def _first(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return int(next(filter(None, found.groups()))) if found else None
