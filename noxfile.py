"""The matrix: every Python with every Django that runs on it, and the lowest versions promised.

Each cell runs the quick tests; the slow ones, of which few depend on versions, run once.
"""

import os
import sys
from pathlib import Path

import nox

DJANGOS = {"3.11": ["5.2"], "3.12": ["5.2", "6.0", "6.1"], "3.13": ["5.2", "6.0", "6.1"]}
LOWEST = [
    *("django==5.2", "django-redis==5.4.0", "redis==5.2.1", "djangorestframework==3.16.0"),
    *("django-ninja==1.5.0", "opentelemetry-sdk==1.30.0", "pyjwt==2.10.0"),
]
# What `make test-all` has: the Python that runs this, and the newest Django for it.
own_python = f"3.{sys.version_info.minor}"
OWN = (own_python, DJANGOS.get(own_python, [""])[-1])
# After `make test-all`, `make matrix ARGS="--tags others"` is the rest.
OTHERS = ["others"]

# pyenv's shims know only the version that is set: look at all that it has.
pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
found = [str(path) for path in sorted(pyenv.glob("3.1[1-9].*/bin"))]
os.environ["PATH"] = os.pathsep.join([*found, os.environ["PATH"]])

# uv fills a cell in 4 seconds, pip in 40. It takes the Pythons of this machine, and what pip's
# environment says of indexes and certificates.
nox.options.default_venv_backend = "uv|virtualenv"
os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")
for pips, uvs in {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_CERT": "SSL_CERT_FILE"}.items():
    if pips in os.environ:
        os.environ.setdefault(uvs, os.environ[pips])

nox.options.error_on_missing_interpreters = "CI" in os.environ


def run_tests(session: nox.Session, which: str, groups: list[str], *requirements: str) -> None:
    project = nox.project.load_toml("pyproject.toml")
    grouped = nox.project.dependency_groups(project, *groups)
    session.install("--editable", ".[embedded]", *grouped, *requirements)
    # uv compiles nothing; what Python compiles at first use, it has to keep.
    workers = os.environ.get("WORKERS", "2")
    session.run(
        *("python", "-m", "pytest", "-n", workers, "-m", which, *session.posargs),
        env={"PYTHONDONTWRITEBYTECODE": ""},
    )


@nox.session
@nox.parametrize(
    ("python", "django"),
    [
        nox.param(python, django, tags=OTHERS if (python, django) != OWN else [])
        for python, djangos in DJANGOS.items()
        for django in djangos
    ],
)
def tests(session: nox.Session, django: str) -> None:
    """The quick tests on one Python with one Django."""
    run_tests(session, "not slow", ["test"], f"django~={django}.0")


@nox.session(python="3.11", tags=OTHERS)
def lowest(session: nox.Session) -> None:
    """The quick tests on the oldest of everything."""
    run_tests(session, "not slow", ["test"], *LOWEST)


@nox.session(python="3.13")
def slow(session: nox.Session) -> None:
    """The slow tests, on the newest of everything."""
    run_tests(session, "slow", ["test", "browser", "databases", "bench"], "hiredis")


@nox.session(python="3.13", default=False)
def adopters(session: nox.Session) -> None:
    """The suites of Django, django-allauth and Django REST framework, with the app in them."""
    project = nox.project.load_toml("pyproject.toml")
    groups = nox.project.dependency_groups(project, "adopters")
    session.install("--editable", ".[embedded,hiredis]", *groups)
    session.run("python", "-m", "adopters", *session.posargs)
