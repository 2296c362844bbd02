"""From settings to the one backend of this process, and what is built on it."""

from dataclasses import dataclass
from threading import Lock
from typing import Any

from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.redis import RedisCache
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.connection import ConnectionProxy
from django_redis.cache import RedisCache as DjangoRedisCache
from django_redis.client import ShardClient
from redis import Redis

from .backends.opening import InvalidOption
from .conf import Settings, get_settings
from .exceptions import InvalidConfig
from .guard import Guard
from .stores import RustAuthStores


@dataclass(frozen=True, slots=True)
class Wiring:
    """The stores and the guard that belong to one version of the settings."""

    stores: RustAuthStores
    guard: Guard


_current: Wiring | None = None
_lock = Lock()


def get_stores() -> RustAuthStores:
    """The stores that the settings describe; made on first use, without connecting."""
    return _wiring().stores


def get_guard() -> Guard:
    """The guard that the settings describe."""
    return _wiring().guard


def _wiring() -> Wiring:
    global _current
    wiring = _current
    if wiring is None:
        # Not under the lock: settings name modules of the site's, which may use us.
        settings = get_settings()
        stores = build_stores(settings)
        built = Wiring(stores, Guard(settings.rate_limit, stores))
        with _lock:
            wiring = _current = _current or built
    return wiring


@receiver(setting_changed)
def forget_connections(*, setting: str, **kwargs: Any) -> None:
    """Build anew after ``override_settings``."""
    global _current
    if setting in ("RUSTAUTH", "CACHES", "DEBUG"):
        with _lock:
            wiring, _current = _current, None
        if wiring:
            wiring.stores.close()


def build_stores(settings: Settings) -> RustAuthStores:
    """Stores after these settings. Raises ``InvalidConfig`` that names the setting."""
    names = {"key_prefix": settings.key_prefix, "scan_count": settings.scan_count}
    try:
        if settings.cache is not None:
            return RustAuthStores.from_client(client_of_cache(settings.cache), **names)  # type: ignore[arg-type]  # two ints and a str
        return RustAuthStores.from_url(
            settings.url,
            client_options=settings.client_options,
            **names,  # type: ignore[arg-type]  # as above
        )
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
        # What a parser of URLs says may quote a part of the password.
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
    """``ConnectionProxy``'s idea of a handler: looked up anew at each use."""

    def __getitem__(self, name: str) -> Any:
        return getattr(get_stores(), name)


def lazy_store(name: str) -> Any:
    """A stand-in for one of the stores, as ``django.core.cache.cache`` is for a cache."""
    return ConnectionProxy(_Stores(), name)  # type: ignore[arg-type]  # it only indexes
