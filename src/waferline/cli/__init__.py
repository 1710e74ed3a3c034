"""The command line: one file a group, heavy imports inside the commands, one place where errors become exit codes."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

_FAILURE, _INTERRUPTED = 2, 130  # exit codes: bad input; Ctrl-C (128 + SIGINT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `waferline`. Exit codes: 0 done, 2 bad input, 3 does not fit, 4 refused to measure."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(args))


def run(args: Sequence[str]) -> int:
    """Run one command line and answer with its exit code; every deliberate error becomes one line (or JSON)."""
    from typer.main import get_command

    from waferline.cli.app import app
    from waferline.errors import WaferlineError

    try:
        code = get_command(app).main(list(args), prog_name="waferline", standalone_mode=False)
    except WaferlineError as error:
        return _report(error.to_json(), str(error), error.exit_code, "--json" in args)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        if not hasattr(error, "format_message"):  # what Typer raises for a wrong option or argument
            raise
        return _report(*_usage(error, args), "--json" in args)
    return code if isinstance(code, int) else 0


def _usage(error: Any, args: Sequence[str]) -> tuple[dict[str, object], str, int]:
    """A usage error as (data, line, exit code), with the value that was wrong."""
    message = " ".join(str(error.format_message()).split())
    option = re.search(r"Invalid value for '(?:[^']* )?(--?[\w-]+)'", message)
    if option and option[1] in args[:-1]:
        message = f"{message.rstrip('.')}, got '{args[list(args).index(option[1]) + 1]}'"
    code = int(getattr(error, "exit_code", _FAILURE)) or _FAILURE
    return {"kind": "usage", "message": message, "where": None, "hint": None, "exit_code": code}, message, code


def _report(data: dict[str, object], line: str, code: int, as_json: bool) -> int:
    if as_json:
        import json

        print(json.dumps({"error": data}, indent=2))
    print(f"waferline: {line}", file=sys.stderr)
    return code
