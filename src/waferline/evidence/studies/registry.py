"""Which studies there are: a file in `cases/` is a study, found by its name and imported only when asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

from waferline.errors import WaferlineError, unknown
from waferline.evidence.studies.study import Check, Study, StudyReport

_CASES = Path(__file__).parent / "cases"
_PACKAGE = "waferline.evidence.studies.cases"


def study_names() -> list[str]:
    """The names of all studies: their file names with `-` for `_`."""
    return sorted(path.stem.replace("_", "-") for path in _CASES.glob("*.py") if not path.stem.startswith("_"))


@cache
def load_study(name: str) -> Study:
    """The study called `name`. Raises: UnknownNameError naming the nearest ones."""
    found = name.lower().replace("_", "-")
    if found not in study_names():
        raise unknown("study", name, study_names())
    study: Study = import_module(f"{_PACKAGE}.{found.replace('-', '_')}").STUDY
    return study


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
    studies = [load_study(name) for name in (names or study_names())]
    reports = []
    for study in studies:
        if progress is not None:
            progress(study.name)
        reports.append(run_study(study))
    return reports
