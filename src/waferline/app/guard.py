"""Who may talk to the app: this machine, by its own name, from its own pages; anybody else needs the token."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "waferline_token"
HEADERS = {
    # Plotly sets styles of elements; nothing else of a page is inline, and nothing comes from elsewhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Next = Callable[[Request], Awaitable[Response]]


def guard(host: str, port: int, token: str | None) -> Callable[[Request, Next], Awaitable[Response]]:
    """What stands before every page of an app on `host`:`port`.

    A page of elsewhere that has its name point here (DNS rebinding) says its own name as Host and is refused; so is a request
    from another page's Origin. token: what a visitor must have, where others than this machine can reach the app.
    """
    names = {*LOOPBACK, host} if token is None else None

    async def checked(request: Request, call_next: Next) -> Response:
        refused = _refusal(request, names, port)
        if refused is None and token is not None:
            refused = _token(request, token)
        response = refused or await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return checked


def _refusal(request: Request, names: set[str] | None, port: int) -> Response | None:
    said = urlsplit(f"//{request.headers.get('host', '')}")
    try:
        known = said.hostname is not None and (names is None or (said.hostname in names and said.port in (None, port)))
    except ValueError:  # a port that is no number
        known = False
    if not known:
        return PlainTextResponse("this app does not answer to that name", 403)
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return PlainTextResponse("only its own pages may ask this app", 403)
    return None


def _token(request: Request, token: str) -> Response | None:
    """None for who has it; in the URL it becomes a cookie, so that it stands in no further URL."""
    if secrets.compare_digest(request.cookies.get(COOKIE, ""), token):
        return None
    if secrets.compare_digest(request.query_params.get("token", ""), token):
        response = RedirectResponse(request.url.path)
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return response
    return PlainTextResponse("a token is needed: the address with it was printed where the app was started", 401)
