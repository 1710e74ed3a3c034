"""The app in a real browser: every view draws, works by keyboard and on a phone, and asks nobody else."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time

import pytest
from tests.app.test_guard import LLAMA, write_store

from waferline.app.export import ENDINGS
from waferline.app.views import VIEWS

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="a browser is not installed")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    import uvicorn

    from waferline.app.server import build

    kept = pytest.MonkeyPatch()
    kept.setenv("WAFERLINE_MEASUREMENTS", str(write_store(tmp_path_factory.mktemp("store") / "store.jsonl")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(build("127.0.0.1", port), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    kept.undo()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, home):
    """A page that fails its test for a message on the console or a request to anybody else."""
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    faults: list[str] = []
    opened.on("console", lambda m: faults.append(m.text) if m.type == "error" and "422" not in m.text else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda r: None if r.url.startswith((home, "data:", "blob:")) else faults.append(r.url))
    opened.set_default_timeout(120_000)  # the first run of a simulator compiles it
    yield opened
    context.close()
    assert not faults


def drawn(page) -> int:
    page.wait_for_function(
        "document.querySelectorAll('.chart').length === document.querySelectorAll('.chart .main-svg:first-child').length"
    )
    return page.locator(".chart .main-svg").count()


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_draws_and_is_accessible(page, home, name):
    from axe_playwright_python.sync_playwright import Axe

    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.context.clear_cookies()
        page.goto(f"{home}/{name}")
        page.wait_for_selector(f"html[data-theme={theme}] #answer:not([aria-busy])")
        assert drawn(page) > 0
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]}).response["violations"]
        assert not found, [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found]


@pytest.mark.parametrize("name", VIEWS)
def test_a_phone_scrolls_only_down(page, home, name):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{home}/{name}")
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_url_restores_the_view(page, home):
    page.goto(f"{home}/explore")
    page.get_by_label("Batch", exact=True).fill("32")
    page.get_by_label("Batch", exact=True).press("Enter")
    page.wait_for_url("**batch=32**")
    page.wait_for_selector("pre:has-text('--batch 32')")
    said = page.locator("#answer").inner_text()
    page.goto(page.url)
    drawn(page)
    assert page.locator("#answer").inner_text() == said
    assert page.get_by_label("Batch", exact=True).input_value() == "32"
    page.get_by_label("Batch", exact=True).fill("64")
    page.get_by_label("Batch", exact=True).press("Tab")
    page.wait_for_selector("pre:has-text('--batch 64')")
    page.go_back()
    page.wait_for_selector("pre:has-text('--batch 32')")


def test_keyboard_alone(page, home):
    page.goto(f"{home}/explore")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate("document.activeElement.id || document.activeElement.type || document.activeElement.tagName")
        )
    assert {"theme", "model", "on", "batch", "file", "submit"} <= seen


def test_an_upload_answers_and_a_bad_one_says_why(page, home, tmp_path):
    good, bad = tmp_path / "config.json", tmp_path / "notes.json"
    good.write_text(json.dumps(LLAMA))
    bad.write_text("hello")
    page.goto(f"{home}/explore")
    page.set_input_files("#file", good)
    page.wait_for_selector("#answer h2:has-text('your-model')")
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON", exact=True).click()
    with open(download.value.path()) as file:  # noqa: PTH123  Playwright's path
        assert json.load(file)["model"] == "your-model"
    page.set_input_files("#file", bad)
    page.wait_for_selector("[role=alert]:has-text('neither a config.json nor a GGUF')")
    page.get_by_label("Machine", exact=True).fill("no such machine")
    page.set_input_files("#file", [])
    page.wait_for_selector("[role=alert]:has-text('unknown hardware')")


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_downloads_as_every_file(page, home, name):
    page.goto(f"{home}/{name}")
    drawn(page)
    for ending, (title, _) in ENDINGS.items():
        with page.expect_download() as download:
            page.get_by_role("link", name=title, exact=True).first.click()
        assert download.value.suggested_filename == f"waferline-{name}.{ending}"
        start = {"png": b"\x89PNG", "svg": b"<?xml", "sh": b"waferline "}.get(ending, b"")
        with open(download.value.path(), "rb") as file:  # noqa: PTH123  Playwright's path
            assert file.read().startswith(start)


def test_a_table_sorts_by_its_head(page, home):
    page.goto(f"{home}/compare")
    page.get_by_role("button", name="TPOT").click()
    cells = page.locator("td:nth-child(8)").all_inner_texts()
    assert [float(c.split()[0]) for c in cells] == sorted(float(c.split()[0]) for c in cells)
