"""Pictures of every view of the app, light, dark and on a phone: `python -m docs.pages.screenshots [VIEW ...]`, with Chromium."""

from __future__ import annotations

import io
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

from docs.pages.markdown import DOCS
from waferline.app.server import build
from waferline.app.views import VIEWS

# view → what is asked of it, where the picture is of more than its first answer
ASKED = {"traffic": "?rate=6&on=l40s&precision=fp8&prompt=512&output=128&requests=600"}
SHAPES = {"light": (1280, 900, "light"), "dark": (1280, 900, "dark"), "phone": (390, 844, "light")}


def main(names: list[str]) -> int:
    """Write docs/images/VIEW-SHAPE.webp."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(build("127.0.0.1", port), port=port, log_level="warning"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in names or VIEWS:
            for shape, (width, height, scheme) in SHAPES.items():
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
                page = context.new_page()
                page.set_default_timeout(400_000)  # the first run of a simulator compiles it
                page.goto(f"http://127.0.0.1:{port}/{name}{ASKED.get(name, '')}")
                page.wait_for_selector(f"html[data-theme={scheme}] #answer:not([aria-busy])")
                page.wait_for_function(
                    "document.querySelectorAll('.chart').length <= document.querySelectorAll('.chart .main-svg').length"
                )
                page.wait_for_timeout(300)  # fonts and bars that grow
                print(_kept(page.screenshot(), DOCS / "images" / f"{name}-{shape}.webp"))
                context.close()
        browser.close()
    server.should_exit = True
    return 0


def _kept(picture: bytes, path: Path) -> Path:
    Image.open(io.BytesIO(picture)).convert("RGB").save(path, lossless=True, quality=100, method=6)
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
