"""Charts: functions take records and answer with a `Chart`; `save` draws it. Plotly draws .html, matplotlib .png and .svg."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.files import write_bytes, write_text
from waferline.report.charts.chart import Chart

# ending → what draws it
_DRAWN_BY = {".png": "matplotlib", ".svg": "matplotlib", ".html": "plotly"}


def check_ending(path: str | Path, where: str = "--plot") -> str:
    """The kind of picture that `path` ends in, so that nothing is computed for one that cannot be drawn.

    Raises:
        InvalidInputError: none of .png, .svg and .html.
        UnsupportedError: what draws it is not installed.
    """
    ending = Path(path).suffix.lower()
    if ending not in _DRAWN_BY:
        raise InvalidInputError(f"'{Path(path).name}' ends in none of .png, .svg and .html", where=where)
    library = _DRAWN_BY[ending]
    if find_spec(library) is None:
        raise UnsupportedError(f"{ending} needs {library}", where=where, hint="pip install 'waferline[plot]'")
    return ending


def save(chart: Chart, path: str | Path, *, dark: bool = False) -> None:
    """Draw `chart` into `path`, by its ending. All of the file or nothing.

    An .html file is interactive and needs nothing else, no network either.

    Raises: InvalidInputError for another ending, UnsupportedError without the extra `plot`, FileFormatError for a path that
    cannot be written.
    """
    ending = check_ending(path)
    if ending == ".html":
        from waferline.report.charts.interactive import figure, page

        write_text(path, page(chart.title, [figure(chart, dark=dark)], dark=dark))
        return
    from waferline.report.charts.still import draw

    write_bytes(path, draw(chart, ending, dark=dark))
