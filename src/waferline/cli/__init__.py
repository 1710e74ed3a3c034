"""The command line: one file a group, heavy imports inside the commands, and here the one place where errors end."""

from __future__ import annotations

import itertools
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself is not imported before Ctrl-C has somewhere to end
    from collections.abc import Sequence
    from typing import Any

_FAILURE, _INTERRUPTED = 2, 130  # bad input; Ctrl-C (128 + SIGINT)
_PLAIN = str.maketrans({"–": "-", "−": "-", "µ": "u", "×": "x", "²": "2", "…": "...", "·": "-", "≤": "<=", "≥": ">="})


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `waferline`. Exit codes: 0 done, 2 bad input or a bug, 3 does not fit, 4 refused to measure, 130 Ctrl-C."""
    try:
        if sys.stdout is None:
            sys.exit(_report(_data("output", "standard output is closed"), as_json=False))
        for stream in (sys.stdout, sys.stderr):
            _write_anything(stream)
        code = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and answer with its exit code; every error becomes one line, with --json also data."""
    debug = "--debug" in arguments or bool(os.environ.get("WAFERLINE_DEBUG"))
    args = list(arguments)
    try:
        code = _command(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `| head -1` has what it wants
        _discard_output()
        return 0
    except SystemExit as end:  # Typer ends like this after completion, with 0, and at a closed pipe, with 1
        if end.code:
            _discard_output()
        return 0
    except BaseException as error:
        if debug:
            import traceback

            traceback.print_exception(error)
        try:
            return _report(_ending(error, args), as_json="--json" in args)
        except OSError:  # standard output is what failed
            _discard_output()
            return _FAILURE


def _command(args: list[str]) -> int:
    from waferline.cli.app import tree

    _check_values(tree(), args)
    plain = [a for a in args if a != "--debug"]
    code = tree().main(plain, prog_name="waferline", standalone_mode=False)
    if code == _INTERRUPTED:  # Typer makes an exit code of Ctrl-C, and says nothing
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _check_values(command: Any, typed: Sequence[str]) -> None:
    """Raises: InvalidInputError where an option that wants a value is followed by nothing, or by another option, which it would
    swallow."""
    words = iter(typed)
    while word := next((w for w in words if w in getattr(command, "commands", ())), None):
        command = command.commands[word]
    names = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    options = {*names, "--debug", "--help", "-h"}
    for word, following in itertools.pairwise([*typed, "--"]):
        if word == "--":
            return
        name, joined, value = word.partition("=")
        value = value if joined else following
        wants = name in names and not getattr(names[name], "is_flag", True)
        if wants and (value == "" or (value in options and not joined)):
            from waferline.errors import InvalidInputError

            told = f"needs a value, and '{value}' is {'an option' if value else 'none'}"
            raise InvalidInputError(told, where=name, hint=f"write {name}={value} if it is meant" if value else None)


def _data(kind: str, message: str, code: int = _FAILURE) -> dict[str, Any]:
    return {"kind": kind, "message": message, "where": None, "hint": None, "exit_code": code}


def _ending(error: BaseException, args: Sequence[str]) -> dict[str, Any]:
    """What the user is told of an error, as data; `exit_code` 0 where it is none."""
    from waferline.errors import typed

    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":  # Typer's name for Ctrl-C
        return _data("interrupted", "interrupted", _INTERRUPTED)
    if hasattr(error, "format_message"):
        return _usage(error, args)
    told = typed(error)
    return {**told.to_json(), "line": str(told)}


def _usage(error: Any, args: Sequence[str]) -> dict[str, Any]:
    """A usage error with the value that was wrong; a group named alone answers with its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.ctx.get_help())
        return _data("help", "", 0)
    message = " ".join(str(error.format_message()).split())
    option = re.search(r"Invalid value for '(?:[^']* )?(--?[\w-]+)'", message)
    if option and option[1] in args[:-1]:
        message = f"{message.rstrip('.')}, got '{args[list(args).index(option[1]) + 1]}'"
    missing = getattr(getattr(error, "param", None), "help", None) if message.startswith("Missing") else None
    if missing:  # what it would be
        message = f"{message.rstrip('.')}: {missing}"
    elif message.startswith("No such command") and "Did you mean" not in message:
        message += " See waferline --help."
    return _data("usage", message, int(getattr(error, "exit_code", _FAILURE)) or _FAILURE)


def _report(data: dict[str, Any], *, as_json: bool) -> int:
    """Tell of an error on standard error, with --json also as data on standard output. Answers with the exit code."""
    from waferline.text import one_line

    code = int(data["exit_code"])
    if code == 0:
        return code
    told = {key: one_line(value) if isinstance(value, str) else value for key, value in data.items()}
    where, hint = (f"{told['where']}: " if told["where"] else ""), (f" ({told['hint']})" if told["hint"] else "")
    line = told.pop("line", f"{where}{told['message']}{hint}")
    if sys.stderr is not None:
        print(f"waferline: {line}", file=sys.stderr)
    if as_json:
        import json

        print(json.dumps({"error": told}, indent=2), flush=True)
    return code


def _write_anything(stream: Any) -> None:
    """Let a stream of few characters write what it can: `–` as a hyphen, `µ` as u, the rest as `?`."""
    import codecs

    def plain(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        text = error.object[error.start : error.end].translate(_PLAIN)
        return "".join(c if c.isascii() else "?" for c in text), error.end

    codecs.register_error("waferline", plain)
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="waferline")


def _discard_output() -> None:
    """Let nothing more reach a standard output that takes nothing, not even Python's own flush at the end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
