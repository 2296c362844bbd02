"""Settings of the example site. What is not about rustauth_django is Django's usual."""

import os
from pathlib import Path

from .embedded import server_url

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = True
SECRET_KEY = "an example, not a secret"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", "testserver"]
ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rustauth_django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "rustauth_django.middleware.RateLimitMiddleware",
]

RUSTAUTH = {
    # `make run` starts a server and leaves its address; name another one like this:
    # RUSTAUTH_URL=redis://127.0.0.1:6379/0 python manage.py runserver
    "URL": os.environ.get("RUSTAUTH_URL") or server_url(),
    "RATE_LIMIT": {
        "ENABLED": True,  # although this is DEBUG
        "RULES": [
            {"path": "/api/auth/get-session", "window": 10, "max": 30},
            {"route": "about/", "disabled": True},
        ],
    },
}

AUTHENTICATION_BACKENDS = [
    "rustauth_django.login.LoginProtection",  # first
    "django.contrib.auth.backends.ModelBackend",
]

DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / ".run" / "db.sqlite3"}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_FROM_EMAIL = "example site <noreply@example.com>"
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "example_project" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]
