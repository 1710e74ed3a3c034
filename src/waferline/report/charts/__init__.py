"""Charts: what a picture shows, as data, and one way to write it: by the ending of its file."""

from __future__ import annotations

from pathlib import Path

from waferline.errors import InvalidInputError
from waferline.files import write_bytes, write_text
from waferline.report.charts.chart import COLOURS, Chart, Panel, Series

__all__ = ["COLOURS", "ENDINGS", "Chart", "Panel", "Series", "check_ending", "save"]

ENDINGS = (".html", ".png", ".svg")


def check_ending(path: str | Path) -> str:
    """The ending of a picture's file, before anything is run for it. Raises: InvalidInputError naming the endings."""
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise InvalidInputError(f"'{Path(path).name}' does not end in {', '.join(ENDINGS)}", where="--plot")
    return ending


def save(chart: Chart, path: str | Path, *, dark: bool = False) -> None:
    """Write `chart`: a page by Plotly that needs nothing else, or a picture by Matplotlib; all of the file or nothing.

    Raises: InvalidInputError for another ending, UnsupportedError for a picture without Matplotlib, FileFormatError for a path
    that cannot be written.
    """
    ending = check_ending(path)
    if ending == ".html":
        from waferline.report.charts.page import figure_of

        write_text(path, str(figure_of(chart, dark=dark).to_html(include_plotlyjs=True, full_html=True)))
    else:
        from waferline.report.charts.image import image_of

        write_bytes(path, image_of(chart, ending[1:], dark=dark))
