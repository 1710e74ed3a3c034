"""Pages that are made from tables of the code are as the code makes them."""

from __future__ import annotations

from docs.pages import inputs, markdown


def test_what_is_read_is_what_the_page_says() -> None:
    assert (markdown.DOCS / "inputs.md").read_text(encoding="utf-8") == inputs.page().rstrip() + "\n"
