"""An answer as a file: a picture of one chart, all tables as CSV, everything as JSON, or how to ask it elsewhere."""

from __future__ import annotations

from waferline.app.page import Page
from waferline.encode import dumps
from waferline.errors import InvalidInputError

# ending → media type
ENDINGS = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "sh": "text/plain; charset=utf-8",
    "py": "text/plain; charset=utf-8",
}


def export(page: Page, ending: str, chart: int = 0, dark: bool = False) -> bytes:
    """The bytes of one file. Raises: InvalidInputError for what this answer does not have, UnsupportedError without the
    extra `plot`."""
    if ending in ("png", "svg"):
        from waferline.report.charts import check_ending
        from waferline.report.charts.still import draw

        check_ending(f"chart.{ending}", where="export")
        if chart >= len(page.charts):
            raise InvalidInputError(f"there is no chart {chart}: the answer has {len(page.charts)}")
        return draw(page.charts[chart], f".{ending}", dark=dark)
    text = {
        "csv": lambda: "\n".join(table.csv() for table in page.tables()),
        "json": lambda: dumps(page.data),
        "sh": lambda: f"{page.cli}\n" if page.cli else "",
        "py": lambda: f"{page.python}\n" if page.python else "",
    }[ending]()
    if not text:
        raise InvalidInputError(f"this answer has no .{ending}")
    return text.encode()
