"""The house rules, held by a machine: who may import whom, how long a room may be, a source for every fact.

The rules and the debts that are known are data, in `house.yaml`.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

HOME = Path(__file__).parents[1]
SRC = HOME / "src"
CATALOG = SRC / "waferline" / "catalog"
HOUSE: dict[str, Any] = yaml.safe_load((HOME / "tests" / "house.yaml").read_text(encoding="utf-8"))
DEBTS: dict[str, list[str]] = HOUSE["debts"]


def held(rule: str, broken: set[str]) -> None:
    """Nothing new breaks `rule`, and what no longer breaks it is off the list of debts."""
    known = set(DEBTS[rule])
    assert not broken - known, f"{rule}: " + "; ".join(sorted(broken - known))
    assert not known - broken, f"{rule}: mended, so take it off house.yaml: " + "; ".join(sorted(known - broken))


@functools.cache
def modules(*folders: str) -> dict[str, tuple[Path, ast.Module]]:
    """Every Python file under `folders` by its dotted name."""
    found = {}
    for folder in folders:
        root = SRC if folder == "src" else HOME
        for path in sorted((SRC if folder == "src" else HOME / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = (path, ast.parse(path.read_text(encoding="utf-8")))
    return found


def imports(name: str, path: Path, tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """(module, name taken from it) of every import anywhere in a file."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*outer, *([node.module] if node.module else [])])
            yield from ((base, alias.name) for alias in node.names)


@functools.cache
def graph(*folders: str) -> dict[str, set[str]]:
    """Module → modules of the same folders that it imports."""
    known = modules(*folders)
    edges: dict[str, set[str]] = {name: set() for name in known}
    for name, (path, tree) in known.items():
        beside = name.rpartition(".")[0]  # scripts of one folder import one another by bare name
        for base, taken in imports(name, path, tree):
            for target in (f"{base}.{taken}", base, f"{beside}.{base}"):
                if target in known:
                    edges[name].add(target)
                    break
        edges[name].discard(name)
    return edges


def room(module: str) -> str:
    """The room of a module; `top` for those that stand beside the rooms."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (SRC / "waferline" / parts[1]).is_dir() else "top"


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach one another (Tarjan's strongly connected components of more than one node)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for target in edges[node]:
            if target not in number:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], number[target])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in edges:
        if node not in number:
            visit(node)
    return found


def test_every_room_imports_only_what_it_may():
    broken = set()
    for module, targets in graph("src").items():
        if module in HOUSE["doors"]:
            continue
        may = {"top", room(module), *HOUSE["rooms"].get(room(module), ())}
        doors = set() if room(module) == "cli" else set(HOUSE["doors"])
        broken |= {f"{module} -> {target}" for target in targets if room(target) not in may or target in doors}
    held("imports", broken)


def test_the_table_itself_has_no_circle_and_names_every_room():
    folders = {p.name for p in (SRC / "waferline").iterdir() if (p / "__init__.py").is_file()}
    assert set(HOUSE["rooms"]) == folders == set(HOUSE["ceilings"]) - {"top"}
    assert circles({name: set(targets) for name, targets in HOUSE["rooms"].items()}) == []


def test_no_circle_between_files():
    held("circles", {" <-> ".join(group) for group in (*circles(graph("src")), *circles(graph("benchmarks")))})


def test_no_private_name_is_imported_from_another_file():
    broken = set()
    for name, (path, tree) in modules("src", "benchmarks", "docs", "tests").items():
        ours: set[str] = set()  # local names of our modules
        for base, taken in imports(name, path, tree):
            if base.partition(".")[0] not in ("waferline", "benchmarks", "docs", "tests"):
                continue
            for part in (*base.split("."), taken or ""):
                if part.startswith("_") and not part.startswith("__"):
                    broken.add(f"{name} -> {base}.{taken}")
            if f"{base}.{taken}" in modules("src", "benchmarks", "docs", "tests"):
                ours.add(str(taken))
        broken |= {
            f"{name} -> {node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours
            if node.attr.startswith("_") and not node.attr.startswith("__")
        }
    held("private", broken)


def test_rooms_stay_below_their_ceilings():
    lines = dict.fromkeys(HOUSE["ceilings"], 0)
    for name, (path, _) in modules("src").items():
        lines[room(name)] += len(path.read_text(encoding="utf-8").splitlines())
    over = {name: (n, HOUSE["ceilings"][name]) for name, n in lines.items() if n > HOUSE["ceilings"][name]}
    assert not over, f"lines and ceiling: {over}"


def records(data: Any, path: str, trail: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, record) of every record that `path` (`engines.*`) leads to."""
    if not path:
        yield trail, data
        return
    step, _, rest = path.partition(".")
    items = data.items() if isinstance(data, Mapping) else enumerate(data)
    for key, value in items:
        if step == str(key) or (step == "*" and key not in ("sources", "date")):
            yield from records(value, rest, f"{trail}.{key}".lstrip("."))


def sourced(record: Any, bibliography: Mapping[str, Any]) -> bool:
    """Whether a record names a source: its own text, citations, or keys of the file's list of sources."""
    if record is None:
        return True  # says that there is nothing
    given = record.get("source") or record.get("sources") or record.get("citations") or record.get("reason") or ()
    if isinstance(given, Mapping):
        return bool(given)
    keys = [given] if isinstance(given, str) else list(given)
    if bibliography and all(isinstance(key, str) and " " not in key for key in keys):
        return bool(keys) and all(key in bibliography for key in keys)
    return bool(keys)


def test_every_fact_has_a_source():
    broken = set()
    for path in sorted(CATALOG.rglob("*.yaml")):
        name = path.relative_to(CATALOG)
        rows = [
            row["records"]
            for row in HOUSE["facts"]
            if name.match(row["files"]) and len(name.parts) == row["files"].count("/") + 1
        ]
        assert rows, f"house.yaml does not say where the records of {name} stand"
        text = path.read_text(encoding="utf-8")
        if not rows[0]:
            assert text.startswith("# "), f"{name} begins with the publication it is from"
            continue
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        for trail, record in (found for place in rows[0] for found in records(data, place)):
            known = data.get("sources") or {} if trail else {}
            covered = trail in {part for source in known.values() for part in source.get("covers", ())}
            if not covered and not (isinstance(record, Mapping | None) and sourced(record, known)):
                broken.add(f"{name}: {trail}".rstrip(": "))
    held("sources", broken)


def test_no_property_is_skipped_and_no_test_is_skipped_without_a_reason_that_is_listed():
    broken = set()
    for name, (_, tree) in modules("tests").items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and any("given" in ast.unparse(d) for d in node.decorator_list):
                calls = (ast.unparse(n) for n in ast.walk(node) if isinstance(n, ast.Call))
                bad = [c for c in calls if re.match(r"(pytest\.(skip|xfail|importorskip)|assume\((False|0)\))", c)]
                broken |= {f"{name}.{node.name}: {call}" for call in bad}
            elif isinstance(node, ast.Call) and re.search(r"\b(skip|skipif|importorskip)$", ast.unparse(node.func)):
                reason = next((k.value for k in node.keywords if k.arg == "reason"), (node.args or [None])[0])
                text = ast.unparse(reason) if reason else "no reason"
                if not any(re.search(allowed, text) for allowed in HOUSE["skips"]):
                    broken.add(f"{name}: skip for {text}")
    held("skips", broken)


def distributions() -> dict[str, set[str]]:
    """Group of requirements (`core` and every extra) → names to import."""
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    names = {g: [re.split(r"[\[<>=!~; ]", r)[0].lower() for r in listed] for g, listed in groups.items()}
    return {g: {HOUSE["modules"].get(n, n.replace("-", "_")) for n in listed} for g, listed in names.items()}


def outside(*folders: str) -> set[str]:
    """Top names of everything imported in `folders` that is neither ours nor Python's."""
    found = set()
    for name, (path, tree) in modules(*folders).items():
        found |= {base.partition(".")[0] for base, _ in imports(name, path, tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("importorskip", "find_spec", "import_module")
            ):
                found |= {str(a.value).partition(".")[0] for a in node.args if isinstance(a, ast.Constant)}
    return found - set(sys.stdlib_module_names) - {"waferline", "tests", "benchmarks", "docs", "conftest"}


def test_what_is_required_is_imported_and_what_the_package_imports_is_required():
    groups = distributions()
    anywhere, shipped = outside("src", "tests", "benchmarks", "docs"), outside("src")
    tools = {tool.replace("-", "_") for tool in HOUSE["tools"]}
    broken = {f"{g}: {m} is never imported" for g, listed in groups.items() for m in listed - anywhere - tools}
    with_extras = set().union(*(listed for group, listed in groups.items() if group != "dev"))
    broken |= {f"{module} is imported and not required" for module in shipped - with_extras - set(HOUSE["brought"])}
    held("packages", broken)


@pytest.mark.parametrize("rule", sorted(DEBTS))
def test_debts_are_listed_once(rule):
    assert len(DEBTS[rule]) == len(set(DEBTS[rule]))
