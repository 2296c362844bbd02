"""Settings of the test suite: the app, nothing that it does not need."""

import os

SECRET_KEY = "not a secret, these are tests"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "rustauth_django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "rustauth_django.middleware.RateLimitMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
ROOT_URLCONF = "tests.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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
# Made to be slow, Django's own would take a third of a second for each user of a test.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Django 6.1 warns without it; before, nobody reads it.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
USE_TZ = True
STATIC_URL = "static/"
ALLOWED_HOSTS = ["*"]
URL = os.environ.get("RUSTAUTH_TEST_URL", "memory://")
RUSTAUTH = {
    "URL": URL,
    "TEST": {"URL": URL},
    "SCAN_COUNT": int(os.environ.get("RUSTAUTH_TEST_SCAN_COUNT", "100")),
}
