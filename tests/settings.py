"""Settings of the test suite: the app, nothing that it does not need."""

SECRET_KEY = "not a secret, these are tests"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "rustauth_django",
]
MIDDLEWARE = ["rustauth_django.middleware.RateLimitMiddleware"]
ROOT_URLCONF = "tests.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
USE_TZ = True
STATIC_URL = "static/"
ALLOWED_HOSTS = ["*"]
