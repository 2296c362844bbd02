"""The public names, pinned."""

import inspect
import subprocess
import sys
from pathlib import Path

import rustauth_django
from rustauth_django import RateLimitStore, RustAuthStores, SecondaryStorage
from rustauth_django.verification.store import VerificationStore


def test_public_names() -> None:
    """Adding one is a decision; taking one away is a breaking change."""
    assert rustauth_django.__all__ == [
        "BackendError",
        "BackendOverloaded",
        "BackendUnavailable",
        "InvalidConfig",
        "RateLimitDecision",
        "RateLimitRule",
        "RateLimitStore",
        "RustAuthError",
        "RustAuthStores",
        "SecondaryStorage",
        "rate_limit",
        "rate_limit_exempt",
        "rate_limit_store",
        "secondary_storage",
    ]
    for name in rustauth_django.__all__:
        assert getattr(rustauth_django, name) is not None


def test_public_modules() -> None:
    """What a site may import or name in its settings; every other module may change."""
    names = {
        path.stem
        for path in Path(rustauth_django.__file__).parent.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    internal = {
        "__init__",
        "attempts",
        "audit",
        "engine",
        "limits",
        "conf",
        "connections",
        "management",
        "templatetags",
        "models",
        "migrations",
        "apps",
        "checks",
    }
    assert names - internal == {
        "contrib",
        "decorators",
        "exceptions",
        "login",
        "middleware",
        "sessions",
        "signals",
        "storage",
        "stores",
        "verification",
    }


def test_every_method_has_an_async_twin() -> None:
    """Of the same parameters, under the same name with an a."""
    for store in (SecondaryStorage, RateLimitStore, VerificationStore):
        methods = {
            name: method
            for name, method in inspect.getmembers(store, inspect.isfunction)
            if not name.startswith("_")
        }
        sync = [name for name in methods if f"a{name}" in methods]
        assert set(methods) - set(sync) - {f"a{name}" for name in sync} <= {
            "attempt",
            "consumption",
            "inspection",
            "forgetting",
            "first_pages",
            "first_pages_of_django",
        }
        assert sync
        for name in sync:
            parameters = inspect.signature(methods[name]).parameters
            assert inspect.signature(methods[f"a{name}"]).parameters == parameters
    assert RustAuthStores.close
    assert inspect.iscoroutinefunction(RustAuthStores.aclose)


def test_importing_needs_no_settings_and_no_server() -> None:
    """The engine is of use without a project."""
    code = (
        "from rustauth_django import RustAuthStores, RateLimitRule;"
        "stores = RustAuthStores.from_url('memory://');"
        "print(stores.rate_limit_store.consume('k', RateLimitRule(10, 3)).remaining)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={},
        check=True,
    )
    assert result.stdout == "2\n"
