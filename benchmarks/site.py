"""The Django project that is measured: its settings and two views that do nothing."""

from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

from .measuring import PATIENT


def configure(url: str, **ours: Any) -> None:
    """Set Django up on the server at ``url``; before what reads settings is imported.

    ``ours`` are settings of this project.
    """
    server = urlsplit(url)
    installed: dict[str, Any] = {
        "ALLOWED_HOSTS": ["*"],
        "DATABASES": {
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        },
        "CACHES": {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}},
        "INSTALLED_APPS": [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "rustauth_django",
        ],
        "ROOT_URLCONF": __name__,
        "RUSTAUTH": {"URL": url, "CLIENT_OPTIONS": PATIENT, **ours},
        "SECRET_KEY": "a benchmark",
        "SESSION_ENGINE": "rustauth_django.sessions",
        "USE_TZ": True,
        # django-smart-ratelimit's fastest algorithm.
        "RATELIMIT_ALGORITHM": "fixed_window",
        "RATELIMIT_BACKEND": "redis",
        "RATELIMIT_REDIS": {"host": server.hostname, "port": server.port},
    }
    settings.configure(**installed)
    django.setup()


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("")


async def async_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("")


urlpatterns = [path("view", view), path("async-view", async_view)]
