"""What is installed: everything that the app needs, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_is_complete(tmp_path: Path) -> None:
    """Built, installed beside the checkout, and used from there."""
    run = {"check": True, "capture_output": True, "text": True, "timeout": 120}
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path]
    subprocess.run([*build, ROOT], **run)  # type: ignore[call-overload]
    (wheel,) = tmp_path.glob("rustauth_django-*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel]
    subprocess.run(install, **run)  # type: ignore[call-overload]

    def files(folder: Path) -> set[str]:
        found = folder.joinpath("rustauth_django").rglob("*")
        return {
            str(path.relative_to(folder))
            for path in found
            if path.is_file() and path.suffix != ".pyc"
        }

    assert files(site) == files(ROOT)
    for name in (
        "limits/algorithms/rustauth.lua",
        "limits/algorithms/consume.lua",
        "engine/lua/compare_and_set.lua",
        "templates/rustauth_django/429.html",
        "templates/rustauth_django/link_email.txt",
        "templatetags/rustauth_pages.py",
        "static/rustauth_django/pages.css",
        "locale/de/LC_MESSAGES/django.mo",
        "py.typed",
    ):
        assert f"rustauth_django/{name}" in files(site)
    code = "import rustauth_django as r; print(r.__file__); r.RustAuthStores.from_url('redis://h')"
    used = subprocess.run([sys.executable, "-c", code], cwd=site, **run)  # type: ignore[call-overload]
    assert used.stdout.startswith(str(site))
