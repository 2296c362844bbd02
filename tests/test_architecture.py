"""The structure, as docs/architecture.md draws it: imports go one way."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rustauth_django"

# Upper lines may import lower ones, and modules of one line the ones before them.
LAYERS = [
    ["exceptions", "durations", "grammar", "rates", "operations", "plans", "scripts", "records"],
    ["algorithms", "backends"],
    ["keyspace", "storage", "ratelimit", "buckets", "usersessions", "tokens", "stores"],
    [
        *("signals", "limiter", "client_ip", "access", "subjects", "paths"),
        *("headers", "responses", "rules", "guard"),
    ],
    ["sections", "conf", "connections"],
    [
        *("verification", "decorators", "middleware", "contrib", "login", "agents", "sessions"),
        *("checks", "apps", "__init__", "management"),
    ],
]
ORDER = [name for layer in LAYERS for name in layer]
ENGINE = {name for layer in LAYERS[:3] for name in layer}
# What a request, the settings or a database would bring into the engine.
FORBIDDEN_IN_ENGINE = (
    "django.http",
    "django.conf",
    "django.db",
    "django.core.cache",
    "django.urls",
)

FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path, tree: ast.AST) -> list[tuple[str, bool]]:
    """What a file imports: absolute names as they are, parts of this package with a dot."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = len(path.relative_to(PACKAGE).parts) - (node.level - 1)
            if node.level and up <= 1:
                first = (node.module or "").partition(".")[0]
                found += [f".{first}"] if first else [f".{alias.name}" for alias in node.names]
            elif not node.level:
                found.append(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    """No cycle, and no lower layer that knows of an upper one."""
    own = ORDER.index(part(path))
    for name in imports(path, ast.parse(path.read_text())):
        if name.startswith("."):
            assert ORDER.index(name[1:]) <= own, f"{path.name} imports {name[1:]}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if part(path) in ENGINE], ids=lambda path: path.name
)
def test_the_engine_knows_nothing_of_requests(path: Path) -> None:
    """Values in, values out."""
    for name in imports(path, ast.parse(path.read_text())):
        assert not name.startswith(FORBIDDEN_IN_ENGINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_hides_in_a_function(path: Path) -> None:
    """All of them are at the top, where a reader looks."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert id(node) in top


def test_settings_have_one_reader() -> None:
    """conf.py, and nobody else."""
    readers = [
        path.name
        for path in FILES
        if any(
            isinstance(node, ast.ImportFrom)
            and node.module == "django.conf"
            and any(alias.name == "settings" for alias in node.names)
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert readers == ["conf.py"]
