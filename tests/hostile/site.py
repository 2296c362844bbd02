"""A site to attack: signs in by name and password, and counts the passwords that it looks at."""

import os
import time
from typing import Any

import django
import redis
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

URL = os.environ["RUSTAUTH_HOSTILE_URL"]
CHECKS = "checks"
# As long as a hash of a password takes.
SECONDS = 0.1

if not settings.configured:
    settings.configure(
        SECRET_KEY="not a secret, these are tests",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "rustauth_django",
        ],
        MIDDLEWARE=["rustauth_django.middleware.RateLimitMiddleware"],
        AUTHENTICATION_BACKENDS=["rustauth_django.login.LoginProtection", f"{__name__}.Slow"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        RUSTAUTH={
            "URL": URL,
            "RATE_LIMIT": {
                "ENABLED": True,
                "RULES": [{"path": "*", "disabled": True}],
                "IP_HEADERS": ["X-Forwarded-For"],
            },
        },
    )
    django.setup()

raw = redis.Redis.from_url(URL)


class Slow:
    """Takes its time, and finds nobody."""

    def authenticate(self, request: Any, **credentials: Any) -> None:
        raw.incr(CHECKS)
        time.sleep(SECONDS)

    def get_user(self, user_id: Any) -> None:
        """Nobody."""


def sign_in(request: HttpRequest) -> HttpResponse:
    from django.contrib.auth import authenticate  # needs the settings above

    found = authenticate(request, username=request.GET["name"], password="wrong")
    return HttpResponse(status=200 if found else 401)


urlpatterns = [path("sign-in/", sign_in)]
