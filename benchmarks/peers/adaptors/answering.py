"""What every adaptor shares: questions in, answers out, as JSON lines. Standard library alone; runs in the peer's Python.

A question is a dictionary of `benchmarks/peers/question.py`. An answer is `{"id", "ttft_s", "itl_s"}` (seconds; None
where the question does not need it) or `{"id", "kind", "refused"}`. The last line is `{"timing": {...}}`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

Question = dict[str, Any]
TIMED_CPU_S = 5.0  # long enough for thousands of calls of a fast peer and a hundred of a slow one
_LONGEST_REASON = 160
_FOLDERS = re.compile(r"(?<![\w.])/(?:[^\s/'\"]+/)+")


class Refused(Exception):
    """The peer cannot answer: `kind` groups reasons, `reason` is one line."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Times(dict[str, float | None]):
    """Seconds to the first token of the batch and between two tokens of a sequence."""

    def __init__(self, ttft_s: float | None = None, itl_s: float | None = None) -> None:
        super().__init__(ttft_s=ttft_s, itl_s=itl_s)


Answerer = Callable[[Question], Times]


def look_up(kind: str, name: str, table: dict[str, str]) -> str:
    """The peer's own name. Raises: Refused when it has none."""
    if name not in table:
        raise Refused(kind, f"{kind} {name} is not in its catalogue")
    return table[name]


def plain_stack(q: Question, *sizes: str) -> dict[str, Any]:
    """Those sizes of a model that the peer's catalogue lacks. Raises: Refused for what is no plain stack of attention layers."""
    s = q["structure"]
    if s is None or ("intermediate" in sizes and s["shared_intermediate"]):
        raise Refused("model", f"model {q['model']} is not in its catalogue and no plain stack of attention layers")
    return {name: s[name] for name in sizes}


def static_only(q: Question) -> None:
    """Raises: Refused where the row needs more of a load than one decode step."""
    if q["load"] != "static" and q["needs"] != ["itl_s"]:
        raise Refused("load", "it has prefill and decode of a static batch, no load")


def whole(value: float) -> int:
    """A count as an integer of at least one."""
    return max(round(value), 1)


def context_tokens(q: Question) -> int:
    """Tokens attended to half way through the generation."""
    return whole(q["input_tokens"] + q["output_tokens"] / 2)


def one_line(error: Exception) -> str:
    """An exception as a short line without the folders of this machine."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return _FOLDERS.sub("", text)[:_LONGEST_REASON]


def one_answer(q: Question, answer: Answerer) -> dict[str, Any]:
    """The line for one question; any exception of the peer is a refusal with its text."""
    try:
        times = answer(q)
    except Refused as error:
        return {"id": q["id"], "kind": error.kind, "refused": error.reason}
    except Exception as error:
        return {"id": q["id"], "kind": "error of the tool", "refused": one_line(error)}
    needed = [times[name] for name in q["needs"]]
    if any(t is None or not 0 < t < float("inf") for t in needed):
        return {"id": q["id"], "kind": "error of the tool", "refused": f"no finite positive time: {dict(times)}"}
    return {"id": q["id"], **times}


def rate(questions: list[Question], answer: Answerer) -> dict[str, float]:
    """Answers per CPU second of this process, warm. One more prompt token each, so that no remembered answer counts."""
    start, done = time.process_time(), 0
    for q in questions:
        done += "refused" not in one_answer({**q, "input_tokens": q["input_tokens"] + 1}, answer)
        if time.process_time() - start > TIMED_CPU_S:
            break
    spent = time.process_time() - start
    return {"answers": done, "cpu_s": spent, "answers_per_cpu_s": done / spent if spent > 0 else 0.0}


def main(answer: Answerer) -> None:
    """Answer all questions of standard input, then time the answered ones again. Refusals before the first answer are cheap."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whatever a peer prints is not an answer
    questions = [json.loads(line) for line in sys.stdin]
    answered, first_cpu_s = [], None
    for q in questions:
        line = one_answer(q, answer)
        if "refused" not in line:
            first_cpu_s = first_cpu_s or time.process_time()  # since the start of this process, imports included
            answered.append(q)
        out.write(json.dumps(line) + "\n")
    stride = max(len(answered) // 997, 1)  # spread the timed ones over all kinds of rows
    out.write(json.dumps({"timing": {**rate(answered[::stride], answer), "first_answer_cpu_s": first_cpu_s}}) + "\n")
    out.flush()
