"""The page of techniques is what its table and its record say, and its words are no better than the record."""

from docs.pages import markdown, techniques

from waferline.predict.techniques import TECHNIQUES


def test_the_page_is_current():
    assert (markdown.DOCS / "techniques.md").read_text(encoding="utf-8") == techniques.page().rstrip() + "\n"


def test_nothing_is_called_compared_with_data_that_was_not():
    for t in TECHNIQUES.values():
        said = techniques.word(t, {"answered": 0})
        assert (said == "compared with data") == t.checked.startswith("compared with data")
