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
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rustauth_django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "rustauth_django.middleware.RateLimitMiddleware",
]

RUSTAUTH = {
    # `make run` starts a server and leaves its address; name another one like this:
    # RUSTAUTH_URL=redis://127.0.0.1:6379/0 python manage.py runserver
    "URL": os.environ.get("RUSTAUTH_URL") or server_url(),
    "SESSIONS": {
        "IDLE_AGE": 14 * 86_400,  # not seen for two weeks
        "MAX_AGE": 90 * 86_400,  # and after three months in any case
    },
    "RATE_LIMIT": {
        "ENABLED": True,  # although this is DEBUG
        "RULES": [
            {"path": "/api/auth/get-session", "window": 10, "max": 30},
            {"view_name": "sign_up", "methods": ["POST"], "window": 10, "max": 3},
            {"route": "about/", "disabled": True},
        ],
    },
}

SESSION_ENGINE = "rustauth_django.sessions"
AUTHENTICATION_BACKENDS = ["rustauth_django.login.ModelBackend"]

DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / ".run" / "db.sqlite3"}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator")
]
PASSWORD_RESET_TIMEOUT = 3600
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
DEFAULT_FROM_EMAIL = "example site <noreply@example.com>"
EMAIL_BACKEND = "example_project.mail.EmailBackend"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "example_project" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
