"""The structure, as docs/architecture.md draws it: imports go one way, and not too deep."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rustauth_django"

# A line may import from its own room and from the lines above it.
LINES = [
    ["exceptions", "signals", "models", "migrations"],
    ["engine"],
    ["limits"],
    ["storage", "stores", "conf", "connections"],
    ["audit", "sessions", "verification"],
    ["middleware", "decorators", "attempts", "login"],
    ["contrib", "management", "templatetags", "checks", "apps", ""],
]
LINE = {room: number for number, line in enumerate(LINES) for room in line}
MAX_DEPTH = 10
MAX_DOORS = 14
# What a request, the settings or a database would bring into the engine.
FORBIDDEN_IN_ENGINE = (
    "django.http",
    "django.conf",
    "django.db",
    "django.core.cache",
    "django.urls",
)

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """The dotted name of a file, from inside the package; "" for the package itself."""
    *folders, name = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(folders if name == "__init__" else [*folders, name])


MODULES = {module_of(path): path for path in FILES}


def room_of(module: str) -> str:
    return module.partition(".")[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules of this package that a file imports."""
    found = set[str]()
    package = list(path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = ".".join([*base, *filter(None, [node.module])])
            names = {f"{target}.{alias.name}".strip(".") for alias in node.names}
            inner = names & MODULES.keys()
            found |= inner if len(inner) == len(names) else {target, *inner}
    return frozenset(found - {module_of(path)})


def imports_from_outside(path: Path) -> list[str]:
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    """No line knows of one below it."""
    for name in imports(MODULES[module]):
        assert name in MODULES, f"{module} imports {name}, which is no module"
        assert LINE[room_of(name)] <= LINE[room_of(module)], f"{module} imports {name}"


def test_no_circle_and_no_tower() -> None:
    """From any module to one that imports nothing of ours it is a short way, without a circle."""
    depth: dict[str, int] = {}
    graph = {module: imports(path) for module, path in MODULES.items()}
    for module in TopologicalSorter(graph).static_order():
        depth[module] = 1 + max((depth[name] for name in graph[module]), default=0)
    assert max(depth.values()) <= MAX_DEPTH, sorted(depth.items(), key=lambda item: item[1])


def test_few_doors() -> None:
    """The top of the package is what settings and imports of a site name."""
    assert len(list(PACKAGE.glob("*.py"))) <= MAX_DOORS


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) == "engine"])
def test_the_engine_knows_nothing_of_requests(module: str) -> None:
    """Values in, values out."""
    for name in imports_from_outside(MODULES[module]):
        assert not name.startswith(FORBIDDEN_IN_ENGINE)


@pytest.mark.parametrize("module", MODULES)
def test_no_import_hides_in_a_function(module: str) -> None:
    """All of them are at the top, where a reader looks."""
    tree = tree_of(MODULES[module])
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert id(node) in top


def test_settings_have_one_reader() -> None:
    """The package conf, and nobody else."""
    readers = [
        module
        for module, path in MODULES.items()
        if any(
            isinstance(node, ast.ImportFrom)
            and node.module == "django.conf"
            and any(alias.name == "settings" for alias in node.names)
            for node in ast.walk(tree_of(path))
        )
    ]
    assert readers == ["conf"]


def test_the_map_names_what_is_there() -> None:
    """Each file that docs/architecture.md names exists, and each file of a room is named."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    table = page.partition("| what it does |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([\w/]+(?:/|\.py))`", table))
    for name in named:
        assert (PACKAGE / name).exists(), name
    for room in ("limits", "contrib", "templatetags"):
        for path in (PACKAGE / room).glob("[a-z]*.py"):
            told = f"{room}/{path.name}" in page or f"`{path.name}`" in page
            assert told, f"{room}/{path.name} is not on the map"
