"""Rich tables of the mesh reports, until they are `Table`s."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table


def simple_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> Table:
    """A table with its first `left` columns left-aligned and the rest right-aligned."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="dim"
    )
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < left else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    return table
