"""The app as a web server: a page, a picture or data for every view, from the query of its URL."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

from anyio import to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from waferline.app.export import ENDINGS, export
from waferline.app.guard import guard
from waferline.app.html import document
from waferline.app.page import Page
from waferline.app.question import values_of
from waferline.app.upload import MOST_BYTES, model_of, name_of
from waferline.app.views import VIEWS, View
from waferline.errors import InvalidInputError, WaferlineError, unknown

Values = tuple[tuple[str, str], ...]  # name and text of every control
_STATIC = Path(__file__).parent / "static"
_THREADS = 4
_KEPT = 128  # answers, and pages of them
_BESIDE = ("dark", "chart")  # of a query: how it is shown, not what is asked


def build(host: str = "127.0.0.1", port: int = 8050, token: str | None = None) -> Starlette:
    """The app for `host`:`port`. token: as in `guard`."""
    routes = [
        Route("/", lambda _: RedirectResponse("/explore")),
        Route("/plotly.js", _plotly),
        Mount("/static", StaticFiles(directory=_STATIC)),
        Route(
            "/{view}.{ending}", _export, methods=["GET", "POST"]
        ),  # before the next, which would take `explore.csv` for a view
        Route("/{view}", _show, methods=["GET", "POST"]),
    ]
    return Starlette(
        routes=routes,
        lifespan=_few_threads,
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard(host, port, token))],
    )


@asynccontextmanager
async def _few_threads(_: Starlette) -> AsyncIterator[None]:
    """Answers are arithmetic in one interpreter: more threads than these only take turns, and make all wait alike."""
    to_thread.current_default_thread_limiter().total_tokens = _THREADS
    yield


def _plotly(_: Request) -> Response:
    from plotly.offline import get_plotlyjs

    return Response(get_plotlyjs(), media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})


def _view(request: Request) -> tuple[str, View]:
    name = request.path_params["view"]
    if name not in VIEWS:
        raise unknown("page", name, VIEWS)
    return name, VIEWS[name]


def _asked(request: Request) -> dict[str, str]:
    return {name: text for name, text in request.query_params.items() if name not in _BESIDE}


def _answer(name: str, values: Values) -> Page:
    """What a view answers without a file: remembered where facts do not change while the app runs."""
    return (_remembered if VIEWS[name].fixed else _remembered.__wrapped__)(name, values)


@lru_cache(maxsize=_KEPT)
def _remembered(name: str, values: Values) -> Page:
    return VIEWS[name].answer(dict(values), None)


def _document(name: str, values: Values, dark: bool) -> str:
    """The whole page of such an answer."""
    return (_written if VIEWS[name].fixed else _written.__wrapped__)(name, values, dark)


@lru_cache(maxsize=_KEPT)
def _written(name: str, values: Values, dark: bool) -> str:
    return document(name, dict(values), _answer(name, values), dark=dark)


async def _show(request: Request) -> Response:
    """A whole page; what cannot be answered is a page that says why."""
    try:
        name, view = _view(request)
    except WaferlineError as error:
        return PlainTextResponse(str(error), 404)
    dark = request.query_params.get("dark", request.cookies.get("dark", "")) == "1"
    began = time.perf_counter()
    values: Mapping[str, str] = {c.name: c.value for c in view.controls}
    why, page, code, text = "", Page(), 200, ""
    try:
        values = values_of(view.controls, _asked(request))
        if request.method == "POST" and view.file:
            page = await _of_upload(view, values, request)
        else:
            text = await run_in_threadpool(_document, name, tuple(values.items()), dark)
    except WaferlineError as problem:
        why, code = str(problem), 422
        values = {**values, **{k: v for k, v in _asked(request).items() if k in values}}
    text = text or document(name, values, page, error=why, dark=dark)
    took = f"answer;dur={1e3 * (time.perf_counter() - began):.1f}"
    headers = {"Server-Timing": took, "Cache-Control": "no-store"}
    return Response(text, code, media_type="text/html; charset=utf-8", headers=headers)


async def _of_upload(view: View, values: Mapping[str, str], request: Request) -> Page:
    """The answer for the model in the body: bytes as they are, its whole size in a header. Lines that ask the same elsewhere
    name a file of its kind. Raises: InvalidInputError, FileFormatError.
    """
    said = request.headers.get("x-size", "0")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_BYTES:
            raise InvalidInputError(f"a file is at most {MOST_BYTES >> 20} MiB")
    size = int(said) if said.isdecimal() and len(said) < 16 else 0
    model = await run_in_threadpool(model_of, bytes(content), size)
    return await run_in_threadpool(view.answer, {**values, "model": name_of(bytes(content))}, model)


async def _export(request: Request) -> Response:
    """A picture or the data of a view's answer."""
    try:
        name, view = _view(request)
        ending = request.path_params["ending"]
        if ending not in ENDINGS:
            raise unknown("ending", ending, ENDINGS)
        values = values_of(view.controls, _asked(request))
        if request.method == "POST" and view.file:
            page = await _of_upload(view, values, request)
        else:
            page = await run_in_threadpool(_answer, name, tuple(values.items()))
        number = request.query_params.get("chart", "0")
        chart = int(number) if number.isdecimal() and len(number) < 4 else 0
        content = await run_in_threadpool(export, page, ending, chart, request.query_params.get("dark") == "1")
    except WaferlineError as error:
        return PlainTextResponse(str(error), 422)
    headers = {"Content-Disposition": f'attachment; filename="waferline-{name}.{ending}"'}
    return Response(content, media_type=ENDINGS[ending][1], headers=headers)
