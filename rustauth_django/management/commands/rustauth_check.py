import time
from typing import Any

from ...engine.operations import Describe, ServerInfo
from ...exceptions import BackendError, BackendUnavailable
from ...limits.operations import Attempt, Settle
from ...limits.rates import RateLimitRule
from ..base import StoresCommand

SAMPLES = 10
PROBE = "rustauth-check"
UNKNOWN = ServerInfo("a server of unknown kind", "", "unknown", "unknown")


class Command(StoresCommand):
    help = "Connects to the server and describes it; exit code 1 if it cannot be used."

    def handle(self, *args: Any, **options: Any) -> None:
        backend = self.stores.backend
        # A server that answers may still be a replica, or full: ask for what the app needs.
        self.stores.secondary_storage.set(PROBE, "", ttl=1)
        attempt = self.stores.rate_limit_store.attempt([(PROBE, RateLimitRule(window=1, max=1))])
        (counted,) = backend.run(attempt)
        given_back = Attempt(attempt.buckets[0], counted.counted_at_ms, "undo")
        backend.run(Settle((given_back,)))
        try:
            info = backend.run(Describe())
        except BackendUnavailable:
            raise
        except BackendError:
            info = UNKNOWN  # a user without the right to ask can still use the app
        self.stdout.write(f"{backend.location} answers: {info.name} {info.version}".rstrip())
        self.stdout.write(f"mode: {info.mode}")
        self.stdout.write(f"latency: {self.latency():.2f} ms (median of {SAMPLES} reads)")
        self.stdout.write(f"eviction policy: {info.eviction_policy}")
        if info.eviction_policy not in ("noeviction", "unknown"):
            self.stdout.write(
                self.style.WARNING(
                    "warning: when memory runs out, this server evicts keys, and so loses"
                    " sessions and limits; set maxmemory-policy to noeviction"
                )
            )
        if info.name == "memory":
            self.stdout.write(
                self.style.WARNING("warning: each process has its own; for development only")
            )

    def latency(self) -> float:
        """The median milliseconds of a read."""
        samples = []
        for _ in range(SAMPLES):
            started = time.perf_counter()
            self.stores.secondary_storage.get(PROBE)
            samples.append(time.perf_counter() - started)
        return sorted(samples)[SAMPLES // 2] * 1000
