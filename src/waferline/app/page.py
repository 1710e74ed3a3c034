"""What a view answers with, before it is HTML, a picture or data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from waferline.report.charts import Chart
from waferline.report.table import Block, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer. sentence: what matters, in words. tiles: (name, figure, how sure) of what is read first.
    film: makes a Plotly figure with frames, by `dark`. cli, python: how to ask the same elsewhere. data: for JSON."""

    sentence: str = ""
    tiles: tuple[tuple[str, str, str], ...] = ()
    charts: tuple[Chart, ...] = ()
    film: Callable[..., dict[str, Any]] | None = None
    blocks: tuple[Block, ...] = ()
    cli: str = ""
    python: str = ""
    data: Any = None
    alarm: bool = False

    def tables(self) -> list[Table]:
        """Those of the answer; what it says, where it has none."""
        found = [block for block in self.blocks if isinstance(block, Table)]
        return found or [Table("", ("answer",), [(self.sentence,)])]
