"""Which studies there are: a file of `catalog/studies` declares one, the module of its name in `cases` computes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module

from waferline.errors import WaferlineError, unknown
from waferline.evidence.studies.facts import FOLDER, facts
from waferline.evidence.studies.study import Check, Source, Study, StudyReport

_CASES = "waferline.evidence.studies.cases"


def study_names() -> list[str]:
    """The names of all studies: those of their files."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_study(name: str) -> Study:
    """The study called `name`; its module is imported when it runs. Raises: UnknownNameError naming the nearest ones."""
    found = name.lower().replace("_", "-")
    if found not in study_names():
        raise unknown("study", name, study_names())
    return _declared(found)


@cache
def _declared(name: str) -> Study:
    data = facts(name)
    declared = {**data["study"], "source": Source(**data["study"]["source"])}
    declared["sources"] = tuple(Source(**source) for source in declared.get("sources", ()))

    def compute() -> Iterator[Check]:
        yield from import_module(f"{_CASES}.{name.replace('-', '_')}").compute(data)

    return Study(name=name, compute=compute, **declared)


def run_study(study: Study) -> StudyReport:
    """Compute every check. What our own models refuse is reported as not checkable, with their reason."""
    start = time.perf_counter()
    checks = tuple(_checks(study))
    return StudyReport(study, checks, time.perf_counter() - start)


def _checks(study: Study) -> Iterator[Check]:
    try:
        yield from study.compute()
    except WaferlineError as error:
        yield Check("the rest of this study", "", None, None, why=str(error))


def run_studies(names: Sequence[str] = (), progress: Callable[[str], None] | None = None) -> list[StudyReport]:
    """Reports of the named studies, or of all; `progress` is told the name of each before it starts."""
    reports = []
    for study in map(load_study, names or study_names()):
        if progress is not None:
            progress(study.name)
        reports.append(run_study(study))
    return reports
