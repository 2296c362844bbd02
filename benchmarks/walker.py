"""One walk over all keys, in a process of its own: ``python -m benchmarks.walker WALK URL PAGE``.

Prints, as JSON, the seconds that it took and the MiB that its memory grew by at most.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

import redis
from django.core.management import call_command

from rustauth_django import secondary_storage

from . import site


def main() -> None:
    walk, url, page = sys.argv[1:]
    site.configure(url, SCAN_COUNT=int(page))
    with open(os.devnull, "w") as nowhere:
        # So that what is loaded on first use is there already.
        secondary_storage.get("absent")
        before, started = memory("VmRSS"), time.perf_counter()
        if walk == "scan":
            with redis.Redis.from_url(url) as client:
                keys = client.scan_iter(count=int(page))
                nowhere.writelines(f"{key.decode()}\n" for key in keys)
        elif walk == "list":
            call_command("rustauth_list_keys", stdout=nowhere)
        else:
            call_command("rustauth_clear", "--no-input", stdout=nowhere)
        seconds, after = time.perf_counter() - started, memory("VmHWM")
    print(json.dumps({"seconds": seconds, "memory": max(0, after - before) / 1024}))


def memory(name: str) -> int:
    """A line of what Linux tells of this process, in KiB; 0 elsewhere."""
    status = Path("/proc/self/status")
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text() if status.exists() else "")
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main()
