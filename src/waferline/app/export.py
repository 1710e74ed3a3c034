"""An answer as a file: a picture, all tables as CSV, everything as JSON, or how to ask it elsewhere."""

from __future__ import annotations

from waferline.app.page import Page
from waferline.encode import dumps
from waferline.errors import InvalidInputError

# ending → what it is called on a page, media type
ENDINGS = {
    "png": ("PNG", "image/png"),
    "svg": ("SVG", "image/svg+xml"),
    "csv": ("CSV", "text/csv; charset=utf-8"),
    "json": ("JSON", "application/json"),
    "sh": ("Command line", "text/plain; charset=utf-8"),
    "py": ("Python", "text/plain; charset=utf-8"),
}


def export(page: Page, ending: str, chart: int = 0, dark: bool = False) -> bytes:
    """The bytes of one file; the picture of an answer without charts is its text. Raises: InvalidInputError for a chart that
    this answer does not have, UnsupportedError without the extra `plot`."""
    if ending in ("png", "svg"):
        from waferline.report.charts import check_ending
        from waferline.report.charts.still import draw, draw_text

        check_ending(f"chart.{ending}", where="export")
        if not page.charts:
            return draw_text((page.sentence, "", *page.blocks), f".{ending}", dark=dark)
        if chart >= len(page.charts):
            raise InvalidInputError(f"there is no chart {chart}: the answer has {len(page.charts)}")
        return draw(page.charts[chart], f".{ending}", dark=dark)
    text = {
        "csv": lambda: "\n".join(table.csv() for table in page.tables()),
        "json": lambda: dumps(page.data),
        "sh": lambda: page.cli,
        "py": lambda: page.python,
    }[ending]()
    return f"{text.rstrip()}\n".encode()
