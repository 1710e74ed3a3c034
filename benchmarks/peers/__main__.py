"""Other tools and waferline on the same published rows: `python -m benchmarks.peers [--json] [--no-write] [PEER ...]`.

Writes `benchmarks/results/peers.json`. Peers live in environments of their own, made by `make peers`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import waferline
from benchmarks.peers import score
from benchmarks.peers.peer import PEERS, ROOT, Peer
from benchmarks.peers.question import Question, questions
from benchmarks.peers.runner import import_cpu_s, put
from waferline.evidence.check import check
from waferline.evidence.folder import evidence_rows
from waferline.evidence.outcome import Outcome

_FIRST = "import waferline; waferline.ServingModel().solve('llama-3-8b', 'h100', 2048)"
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"


def ours_timed(asked: Sequence[Question]) -> dict[str, float]:
    """Rows that `waferline.evidence.check` answers per CPU second of one process, warm, at one more prompt token each."""
    moved = [replace(q.row, input_tokens=(q.row.input_tokens or 0) + 1) for q in asked]
    start = time.process_time()
    answered = sum(o.answered for o in check(moved).outcomes)
    spent = time.process_time() - start
    first = import_cpu_s([sys.executable, "-c", _FIRST])
    return {"answers": answered, "cpu_s": spent, "answers_per_cpu_s": answered / spent, "first_answer_cpu_s": first}


def compare(peer: Peer, asked: Sequence[Question], ours: Sequence[Outcome]) -> dict[str, Any]:
    """One peer on every `stride`-th question, beside ours."""
    asked, ours = asked[:: peer.stride], ours[:: peer.stride]
    replies = put(peer, [q.data for q in asked])
    out: dict[str, Any] = {"version": replies.version, "stride": peer.stride, "failed": replies.failed or None}
    if replies.failed:
        return out
    theirs = score.outcomes(asked, replies.answers, ours)
    out |= {"timing": replies.timing, "import_cpu_s": replies.import_cpu_s}
    stated = [(t, o) for t, o in zip(theirs, ours, strict=True) if o.stated != "incomplete"]
    complete = score.by_kind([t for t, _ in stated], [o for _, o in stated])
    return out | {"all": score.side_by_side(theirs, ours), "by_kind": score.by_kind(theirs, ours), "complete": complete}


def run(peers: Sequence[Peer] = PEERS, progress: bool = True) -> dict[str, Any]:
    """Everything anew: our predictions of all rows, and each peer's."""

    def say(text: str) -> None:
        if progress:
            print(text, file=sys.stderr, flush=True)

    rows = evidence_rows()
    asked = questions(rows)
    say(f"{len(asked):,} of {len(rows):,} rows are questions")
    everything = check(rows)
    by_id = {o.row.id: o for o in everything.outcomes}
    ours = [by_id[q.row.id] for q in asked]
    put_ids = {q.row.id for q in asked}
    own = {
        "version": waferline.__version__,
        "import_cpu_s": import_cpu_s([sys.executable, "-c", "import waferline"]),
        "timing": ours_timed(asked),
        "all_rows": everything.total.to_json(),
        "questions": everything.only(lambda o: o.row.id in put_ids).total.to_json(),
    }
    results: dict[str, Any] = {"date": datetime.date.today().isoformat(), "python": platform.python_version()}
    results |= {"rows": len(rows), "questions": len(asked), "waferline": own, "peers": {}}
    for peer in peers:
        say(f"{peer.name} ...")
        results["peers"][peer.name] = compare(peer, asked, ours)
    return results


def _line(name: str, r: dict[str, Any]) -> str:
    if r["failed"]:
        return f"{name}: {r['failed']}"
    same, timing = r["all"]["same_rows"], r["timing"]
    return (
        f"{name} {r['version']}: answered {r['all']['answered_share']:.1%} of {r['all']['asked']:,}; on the same "
        f"{same['peer']['rows']:,} rows median {same['peer']['median_error']:.1%}, p90 {same['peer']['p90_error']:.1%}; waferline "
        f"{same['waferline']['median_error']:.1%}, {same['waferline']['p90_error']:.1%}; "
        f"{timing['answers_per_cpu_s']:,.0f} answers per CPU second; import {r['import_cpu_s']:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", nargs="*", help="names; all when none is given (only a full run is written)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-write", action="store_true")
    asked = parser.parse_args()
    chosen = [p for p in PEERS if not asked.peers or p.name in asked.peers]
    if len(chosen) < len(asked.peers):
        parser.error(f"peers are {', '.join(p.name for p in PEERS)}")
    results = run(chosen)
    if not asked.no_write and len(chosen) == len(PEERS):
        Path(RESULTS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if asked.json:
        print(json.dumps(results, indent=1))
        return
    own = results["waferline"]
    rate = own["timing"]["answers_per_cpu_s"]
    print(f"waferline {own['version']}: {rate:,.0f} rows per CPU second; import {own['import_cpu_s']:.2f} s")
    for name, r in results["peers"].items():
        print(_line(name, r))


if __name__ == "__main__":
    main()
