"""One check of every packaged row, shared by the tests that look at it."""

from __future__ import annotations

import pytest

from waferline.evidence.check import check
from waferline.evidence.folder import PACKAGED
from waferline.evidence.report import Report
from waferline.evidence.rows import read_rows


@pytest.fixture(scope="session")
def packaged() -> Report:
    return check(read_rows(PACKAGED))
