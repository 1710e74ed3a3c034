"""Writes `docs/studies.md`: every study with its verdicts, and how the claim checker does on all published rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from docs.pages.markdown import table
from waferline.evidence.claims.survey import Survey, survey
from waferline.evidence.folder import evidence_rows
from waferline.evidence.studies.registry import run_studies
from waferline.evidence.studies.study import VERDICTS, StudyReport, headline
from waferline.report.claims import flagged_table, verdict_table
from waferline.report.studies import check_table

PAGE = Path(__file__).parent.parent / "studies.md"

HEAD = """# Studies and claims

What others published, recomputed. A study declares its source, the claim, the configuration and what is computed; its
tolerances were set before it ran (by the aim of the study, the source itself, or the digits that it prints) and a miss
carries its reason. What the agreement of a check shows is said of each:

- *compared with data*: computed beside something that was measured or simulated elsewhere. The headline counts these alone,
  and of them only the ones that no constant was fitted to.
- *identity*: printed figures beside one another, or a printed formula or parameter count worked out again. It shows that a
  source is consistent and that we read it right, not that a prediction is good: such a check is circular.
- *bound holds*: a one-sided law or a range that was stated beforehand.
- *own check*: our code beside our code or an exact reference, or a finding of ours. Its reference stands with the tolerance,
  never in the column *published*.
- *missed*, with the reason as far as it is known; *not checkable*: the source does not give what a comparison needs, or our
  own model refuses to answer.

Run one with `waferline study run NAME`, all with `waferline study run --all`.

This page is written by `python -m docs.build studies`; no number in it is typed."""

# Systems whose mechanism is a command of its own, beside the studies: what was published, and the command.
SYSTEMS = (
    ("Cerebras weight streaming (WeightStreamingModel)", "predict gpt-3-175b --on cs-3 --strategy weight-streaming"),
    ("WaferLLM: prefill and decode on a wafer", "predict llama-2-7b --on wse2 --grid 360x360"),
    ("WaferLLM: MeshGEMM", "simulate mesh gemm 256x256x256 --grid 16x16"),
    ("WaferLLM: MeshGEMV", "simulate mesh gemv 1024x1024 --grid 16x16"),
    ("Inference-X: a Q4_K layer of a transformer", "simulate mesh forward llama-2-7b --grid 4x4 --weights q4_k"),
    ("Quantisation lesson: what fewer bits buy", "predict llama-3-8b --on h100 --precision int4"),
    ("gam: resident normal equations", "measure resident --device cpu --shape 2000x64 --reps 5"),
)

OWN = """## On a model and a machine of your own

`waferline study run NAME --model MODEL --on MACHINE` applies the mechanism of a study to your own case, with it and, where
it can be left out, without it; options are those of `predict`. Where the machine's own model is the mechanism (a board with
a design, a microcontroller's kernels and memory plan), that answer is given. `svm.yaml` is a learner of yours, such as
`{name: svm, title: A linear SVM, learner: {kind: linear-svm, features: 21, classes: 10}}`."""

CLAIMS = """## Claims

`waferline claim check "Llama-7B Q4_K on CS-3: 2400 tokens/s at batch 1"` (or a YAML file) reads model, machine, formats,
batch, lengths and metric out of a sentence and judges each figure:

- *infeasible*: it breaks a law. Weights, and the KV cache of the batch, must fit (capacity); the arithmetic must not
  outrun the peak, the bytes not the bandwidth, of all devices at once with perfect overlap (arithmetic, bandwidth);
  figures of one clause must agree (throughput × time per token = batch).
- *optimistic*: no law forbids it, but it is faster than our 95 % interval: the model's own, and at least the spread of
  published values of that kind of load (fitted on half of the sources, see `evidence/claims/data/spread.yaml`).
- *plausible*: inside the interval, or slower; *latency* is named as the law where both roofs are ten times away.
- *unverifiable*: something is missing, and it says what.

The laws leave schedules, engines and layouts free, and take what a claim does not state in its favour. Put to all
published end-to-end rows as if they were claims (`waferline claim survey`), they give:"""


def build() -> list[Path]:
    """Write the page and answer with its path."""
    reports = run_studies()
    parts = [
        HEAD,
        "## Overview",
        f"**{headline(reports)}.**",
        _overview(reports),
        OWN,
        _own(reports),
        *map(_study, reports),
    ]
    parts += [CLAIMS, *_claims(survey(evidence_rows()))]
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return [PAGE]


def _overview(reports: Sequence[StudyReport]) -> str:
    rows = [
        [
            f"[{r.study.name}](#{r.study.name})",
            r.study.title,
            "{} of {}".format(*r.comparisons),
            *(str(r.count(v)) for v in VERDICTS),
        ]
        for r in reports
    ]
    rows.append(["**all**", "", "", *(str(sum(r.count(v) for r in reports)) for v in VERDICTS)])
    return table(("study", "what was published", "within, of comparisons", *VERDICTS), rows, left=2)


def _own(reports: Sequence[StudyReport]) -> str:
    """Every system on a model and a machine of the reader's own: a command that the tests run, or why there is none."""
    own = [(r.study.name, r.study.own) for r in reports]
    rows = [
        [
            f"[{name}](#{name})",
            "why not" if "why" in o else "works for your model",
            o.get("why") or f"`waferline {o['command']}`",
        ]
        for name, o in own
    ]
    rows += [[system, "works for your model", f"`waferline {command}`"] for system, command in SYSTEMS]
    return table(("study", "on your own", "command, which the tests run, or the reason"), rows, left=3)


def _study(r: StudyReport) -> str:
    s = r.study
    setting = "; ".join(f"{k}: {v}" for k, v in s.configuration.items())
    lines = [f"## {s.name}", f"[{s.title}]({s.source.url}), {s.source.date}. Claim: {s.claim}.", f"{setting}."]
    if s.note:
        lines.append(f"*{s.note[0].upper()}{s.note[1:].rstrip(chr(46))}.*")
    lines.append(check_table(r, origins=True).markdown())
    return "\n\n".join(lines)


def _claims(s: Survey) -> list[str]:
    said = (
        f"Of {len(s.impossible)} rows that their collectors had found to be faster than light, {s.caught:.1%} are called "
        f"infeasible; of {len(s.sound):,} unmarked rows on which there is a verdict, {s.wrongly_flagged:.2%} are, and "
        f"{s.count('optimistic') / max(len(s.sound), 1):.1%} are called optimistic, where a 95 % interval would let 2.5 %. "
        "The infeasible ones are listed below: some are true errors that nobody had marked, others have a reason that the row does "
        "not tell, such as fp16 accumulation at twice the quoted peak or a cache that holds the weights."
    )
    return [verdict_table(s).markdown(), said, flagged_table(s).markdown()]


if __name__ == "__main__":
    build()
