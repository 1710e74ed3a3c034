"""`waferline app`: the answers in a browser, from this machine alone."""

from __future__ import annotations

import errno
import os
import socket
from typing import Annotated

import typer


def app(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port.")] = 8050,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than this machine need --open.")
    ] = "127.0.0.1",
    reach: Annotated[
        bool, typer.Option("--open", help="Let other machines in, who must have the token that is printed.")
    ] = False,
) -> None:
    """Explore, compare and check answers in a browser. It works offline, and no request leaves this machine."""
    import secrets
    from importlib.util import find_spec

    from waferline.cli.output import warn
    from waferline.errors import InvalidInputError, UnsupportedError

    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise UnsupportedError("the app needs Starlette and Uvicorn", hint="pip install 'waferline[app]'")
    import uvicorn

    from waferline.app.guard import LOOPBACK
    from waferline.app.server import build

    if host not in LOOPBACK and not reach:
        raise InvalidInputError(f"'{host}' lets other machines in", where="--host", hint="say so with --open")
    listening = _listening(host, port)
    token = secrets.token_urlsafe(24) if host not in LOOPBACK else None
    warn(f"http://{host}:{port}/{f'?token={token}' if token else ''} (Ctrl-C ends it)")
    serving = uvicorn.Config(build(host, port, token), log_level="warning", server_header=False)
    uvicorn.Server(serving).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """Raises: InvalidInputError where the port is taken, or no address of this machine."""
    from waferline.errors import InvalidInputError

    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        code = error.errno or 0  # below it: a name that nobody knows
        why = os.strerror(code) if code > 0 else "no address of this machine"
        hint = "another --port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else None
        raise InvalidInputError(f"cannot listen: {why}", where=f"{host}:{port}", hint=hint) from None
