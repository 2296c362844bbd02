"""From settings to the one backend of this process, and what is built on it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from sys import modules
from threading import Lock
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.redis import RedisCache
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.connection import ConnectionProxy
from django.utils.module_loading import import_string
from django_redis.cache import RedisCache as DjangoRedisCache
from django_redis.client import ShardClient
from redis import Redis

from .conf import READ, Settings, for_tests, get_settings
from .engine.backends import Backend, MemoryBackend
from .engine.opening import InvalidOption, open_backend
from .engine.operations import Operation
from .engine.plans import Call, Plan, adrive, drive
from .engine.redis import RedisBackend
from .exceptions import InvalidConfig
from .limits.guard import Guard
from .stores import RustAuthStores

F = TypeVar("F")
T = TypeVar("T")
Builder: TypeAlias = Callable[[Settings, RustAuthStores], F]


@runtime_checkable
class Closable(Protocol):
    """A feature with connections of its own."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Wiring:
    """What was built for one version of the settings; ``features`` maps builders to results."""

    settings: Settings
    stores: RustAuthStores
    guard: Guard
    features: dict[Builder[Any], Any] = field(default_factory=dict)
    is_for_tests: bool = False

    def close(self) -> None:
        """Close the connections of the stores, and those that features have opened."""
        self.stores.close()
        for feature in self.features.values():
            if isinstance(feature, Closable):
                feature.close()


logger = logging.getLogger("rustauth_django")

# By its path: the package that it needs is an extra.
TELEMETRY = "rustauth_django.contrib.otel.Telemetry"

_current: Wiring | None = None
_pinned: Backend | None = None
_lock = Lock()


def get_stores() -> RustAuthStores:
    """The stores that the settings describe; made on first use, without connecting."""
    return _wiring().stores


def get_guard() -> Guard:
    """The guard that the settings describe."""
    return _wiring().guard


def get_feature(build: Builder[F]) -> F:
    """What ``build`` makes of the settings and the stores, kept until the settings change.

    In this way a feature imports this module, and this module imports no feature.
    """
    wiring = _wiring()
    if build not in wiring.features:
        wiring.features[build] = build(wiring.settings, wiring.stores)
    feature: F = wiring.features[build]
    return feature


def run(plan: Plan[Any, T]) -> T:
    """Drive a plan of operations and calls on the stores of the settings, blocking."""
    return drive(plan, _perform)


async def arun(plan: Plan[Any, T]) -> T:
    """Drive a plan of operations and calls on the stores of the settings, awaiting."""
    return await adrive(plan, _aperform)


def _perform(step: Operation[Any] | Call) -> Any:
    return step.run() if isinstance(step, Call) else get_stores().backend.run(step)


async def _aperform(step: Operation[Any] | Call) -> Any:
    return await (step.arun() if isinstance(step, Call) else get_stores().backend.arun(step))


def _wiring() -> Wiring:
    wiring = _current
    # A site that does not test has not imported this module of Django's.
    if wiring is not None and (
        "django.test.utils" not in modules or wiring.is_for_tests is is_test_environment()
    ):
        return wiring
    return _build()


def _build() -> Wiring:
    global _current
    # Not under the lock: settings name modules of the site, which may use this app.
    settings, backend, is_for_tests = get_settings(), _pinned, is_test_environment()
    if is_for_tests and backend is None:
        chosen = for_tests(settings)
        if chosen is not settings and chosen.url == "memory://":
            backend = memory_of_tests()
        settings = chosen
    built = build_wiring(settings, backend or open_settings(settings), is_for_tests)
    with _lock:
        before = _current
        if before is not None and before.is_for_tests is is_for_tests:
            return before
        _current = built
    if before is not None:
        before.close()
    return built


def is_test_environment() -> bool:
    """Is Django's test environment set up? Its runner and pytest-django do so before any test."""
    utils = modules.get("django.test.utils")
    # There is no public way to ask; Django itself looks at this attribute.
    return hasattr(getattr(utils, "_TestState", None), "saved_data")


@cache
def memory_of_tests() -> MemoryBackend:
    """One memory for all tests of the process, whatever settings they override meanwhile."""
    told = 'Tests use memory in place of the server of RUSTAUTH; RUSTAUTH["TEST"] changes that.'
    logger.warning(told)
    return MemoryBackend()


@contextmanager
def use(backend: Backend) -> Iterator[RustAuthStores]:
    """For tests: within the block this backend is used, whatever the settings say."""
    global _current, _pinned
    with _lock:
        before, _current, _pinned = (_current, _pinned), None, backend
    try:
        yield get_stores()
    finally:
        with _lock:
            _current, _pinned = before


@receiver(setting_changed)
def forget_connections(*, setting: str, **kwargs: Any) -> None:
    """Build anew after ``override_settings``."""
    global _current
    if setting in (*READ, "CACHES"):
        with _lock:
            wiring, _current = _current, None
        if wiring:
            wiring.close()


def build_wiring(settings: Settings, backend: Backend, is_for_tests: bool = False) -> Wiring:
    """Stores and guard as these settings describe them, on a backend. Raises ``InvalidConfig``."""
    observe = None
    if settings.telemetry:
        try:
            telemetry = import_string(TELEMETRY)()
        except ImportError:
            told = 'RUSTAUTH["TELEMETRY"] needs OpenTelemetry: install rustauth-django[otel]'
            raise InvalidConfig(told) from None
        backend, observe = telemetry.wrap(backend), telemetry.observe
    stores = RustAuthStores(
        backend,
        key_prefix=settings.key_prefix,
        scan_count=settings.scan_count,
        local_refusals=settings.local_refusals,
    )
    guard = Guard(settings.rate_limit, stores.rate_limit_store, observe=observe)
    return Wiring(settings, stores, guard, is_for_tests=is_for_tests)


def open_settings(settings: Settings) -> Backend:
    """The backend of these settings. Raises ``InvalidConfig`` that names the setting."""
    try:
        if settings.cache is not None:
            return RedisBackend(client_of_cache(settings.cache))
        return open_backend(settings.url, settings.client_options, cluster=settings.cluster)
    except InvalidConfig as error:
        where = "CACHE" if settings.cache is not None else "URL"
        if settings.client_options and isinstance(error, InvalidOption):
            where = "CLIENT_OPTIONS"
        raise InvalidConfig(f'RUSTAUTH["{where}"]: {error}') from None


def client_of_cache(alias: str) -> Redis:
    """A client on the connection pool of a cache; its key prefix and serializer play no part."""
    client: Any = None
    try:
        cache = caches[alias]
        if isinstance(cache, RedisCache):
            client = cache._cache.get_client(write=True)
        elif isinstance(cache, DjangoRedisCache) and not isinstance(cache.client, ShardClient):
            client = cache.client.get_client(write=True)
    except InvalidCacheBackendError:
        if "://" in alias:  # and, it may be, a password
            raise InvalidConfig('that is a URL; set it as RUSTAUTH["URL"]') from None
        raise InvalidConfig(f"there is no cache {alias!r} in CACHES") from None
    except (ImproperlyConfigured, ValueError, TypeError) as error:
        # The message of a URL parser may quote a part of the password.
        told = f": {error}" if isinstance(error, ImproperlyConfigured) else ""
        raise InvalidConfig(f"the cache {alias!r} cannot be opened{told}") from None
    if not isinstance(client, Redis):
        raise InvalidConfig(
            f"the cache {alias!r} is neither a django_redis.cache.RedisCache nor a"
            " django.core.cache.backends.redis.RedisCache on one server"
        )
    options = client.connection_pool.connection_kwargs
    for name in ("socket_timeout", "socket_connect_timeout"):
        if not isinstance(options.get(name), int | float | None):
            raise InvalidConfig(f"the cache {alias!r} has a {name} that is no number")
    return Redis(connection_pool=client.connection_pool)


class _Stores:
    """The handler that ``ConnectionProxy`` asks for the stores at each use."""

    def __getitem__(self, name: str) -> Any:
        return getattr(get_stores(), name)


def lazy_store(name: str) -> Any:
    """A stand-in for one of the stores, as ``django.core.cache.cache`` is for a cache."""
    return ConnectionProxy(_Stores(), name)  # type: ignore[arg-type]  # it only indexes
