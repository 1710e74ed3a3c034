"""Reading a text file that somebody else wrote: YAML or JSON as plain data, or one line that says what is wrong and where.

Nothing in a file can cost more than a second or two: devices and pipes are refused unread, sizes are limited, aliases may
not unfold without end, and a key given twice is a mistake that neither format would report.
"""

from __future__ import annotations

import json
import re
import stat
from functools import cache
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from waferline.errors import FileFormatError

MAX_YAML_BYTES = 1 << 19  # the longest packaged file has 40 kB; YAML takes some 3 µs and 150 bytes of memory a byte
MAX_JSON_BYTES = 1 << 22  # the longest published configuration has some 100 kB
_MAX_VALUES = 1 << 19  # of a YAML file once its aliases are unfolded
# What the constructors of YAML's types raise for text that is no such value: `!!bool maybe`, a 13th month, 5,000 digits.
_NO_SUCH_VALUE = (ValueError, LookupError, AttributeError, TypeError, OverflowError)


def check_regular(path: Path) -> None:
    """Raises: FileFormatError for what is no regular file: a pipe or a device would be waited for, or never end."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except ValueError:  # a null character in the path
        raise FileFormatError("cannot be read: no such path", where=str(path)) from None
    if not regular:
        raise FileFormatError("cannot be read: not a regular file", where=str(path))


def read_text(path: Path, most_bytes: int = MAX_YAML_BYTES) -> str:
    """The text of a regular UTF-8 file of at most `most_bytes`.

    Raises: FileFormatError for what is no such file.
    """
    where = str(path)
    check_regular(path)
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
        text = content[:most_bytes].decode("utf-8")
    except UnicodeDecodeError:
        raise FileFormatError("not UTF-8 text", where=where) from None
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", where=where) from None
    if len(content) > most_bytes:
        raise FileFormatError(f"longer than {most_bytes >> 10} KiB", where=where)
    return text


def parse_json(text: str, where: str) -> Any:
    """JSON text as Python data.

    Raises: FileFormatError naming the line and column of the first mistake, or the key that is given twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise FileFormatError(f"key {shown(twice)} is given twice", where=where)
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise FileFormatError(f"malformed JSON at {place}: {error.msg}", where=where) from None
    except RecursionError:
        raise FileFormatError("malformed JSON: nested too deeply", where=where) from None
    except FileFormatError:
        raise
    except ValueError:  # the interpreter's limit on the digits of a whole number
        raise FileFormatError("malformed JSON: a number has thousands of digits", where=where) from None


def parse_yaml(text: str, where: str) -> Any:
    """YAML text as Python data; `5e6` is a number, as in YAML 1.2.

    Raises: FileFormatError naming the line and column of the first mistake, or the key that is given twice.
    """
    import yaml  # packaged facts are compiled, so most commands never need it

    loader = _loader()(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, {}, where)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        raise FileFormatError(f"malformed YAML{place}: {reason}", where=where) from None
    except RecursionError:
        raise FileFormatError("malformed YAML: nested too deeply", where=where) from None
    except FileFormatError:
        raise
    except _NO_SUCH_VALUE as error:
        raise FileFormatError(f"malformed YAML: a value cannot be read: {error}", where=where) from None
    finally:
        loader.dispose()


@cache
def _loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster where it is built in

    class Loader(base):
        """Of its own, so that YAML 1.2's floats are not added to everybody's loader."""

    number = re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789."))
    return Loader


def _check(node: Any, known: dict[int, int], where: str) -> int:
    """How many values `node` holds once every alias is unfolded; `known` are the nodes that were counted.

    Raises: FileFormatError for a key given twice, an alias within itself, or too many values.
    """
    count = known.get(id(node))
    if count == 0:
        raise FileFormatError(f"an alias contains itself (line {node.start_mark.line + 1})", where=where)
    if count is not None:
        return count
    known[id(node)], count = 0, 1
    if node.id == "mapping":
        keys = [(key.tag, key.value) for key, _ in node.value if key.id == "scalar"]
        if len(set(keys)) < len(keys):
            twice = next(k for i, (k, _) in enumerate(node.value) if k.id == "scalar" and (k.tag, k.value) in keys[:i])
            line = twice.start_mark.line + 1
            raise FileFormatError(f"key {shown(twice.value)} is given twice (again at line {line})", where=where)
        count += sum(_check(part, known, where) for pair in node.value for part in pair)
    elif node.id == "sequence":
        count += sum(_check(item, known, where) for item in node.value)
    if count > _MAX_VALUES:
        raise FileFormatError(f"holds more than {_MAX_VALUES:,} values once its aliases are unfolded", where=where)
    known[id(node)] = count
    return count
