"""The matrix: every Python with every Django that runs on it, and the lowest versions promised."""

import os
from pathlib import Path

import nox

DJANGOS = {"3.11": ["5.2"], "3.12": ["5.2", "6.0", "6.1"], "3.13": ["5.2", "6.0", "6.1"]}
LOWEST = [
    *("django==5.2", "django-redis==5.4.0", "redis==5.2.1", "djangorestframework==3.16.0"),
    *("django-ninja==1.5.0", "opentelemetry-sdk==1.30.0"),
]

# pyenv's shims know only the version that is set: look at all that it has.
pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
found = [str(path) for path in sorted(pyenv.glob("3.1[1-9].*/bin"))]
os.environ["PATH"] = os.pathsep.join([*found, os.environ["PATH"]])

nox.options.error_on_missing_interpreters = "CI" in os.environ


def run_tests(session: nox.Session, *requirements: str) -> None:
    session.install("--upgrade", "pip>=25.1", silent=True)
    groups = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "test")
    session.install("--editable", ".[embedded]", *groups, *requirements)
    # What is slow runs once, by `make test-all`.
    session.run("python", "-m", "pytest", "-n", "2", "-m", "not slow", *session.posargs)


@nox.session
@nox.parametrize(
    ("python", "django"), [(py, django) for py, djangos in DJANGOS.items() for django in djangos]
)
def tests(session: nox.Session, django: str) -> None:
    """One Python with one Django."""
    run_tests(session, f"django~={django}.0")


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """The oldest of everything."""
    run_tests(session, *LOWEST)
