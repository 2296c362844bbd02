"""The app, for ``INSTALLED_APPS``."""

from typing import Any

from django.apps import AppConfig, apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_finished, request_started, setting_changed
from django.db.models.signals import class_prepared, post_delete, post_save
from django.utils.translation import gettext_lazy as _

from .attempts import count_failure, forgive, free_on_new_password
from .checks import (
    check_allauth,
    check_audit,
    check_debug,
    check_deployment,
    check_logins,
    check_peers,
    check_resets,
    check_settings,
    check_urls,
)
from .connections import get_stores
from .limits.store import RateLimitStore
from .sessions.current import begin_async_requests, begin_request, end_request
from .sessions.receivers import note_client, revoke_on_change, revoke_on_delete
from .storage import SecondaryStorage
from .stores import RustAuthStores


def watch_users() -> None:
    """Listen to changes of users."""
    for model in apps.get_models():
        watch_user(model)


def watch_user(sender: Any, **kwargs: Any) -> None:
    """Listen to a model if it is one of users; a receiver of ``class_prepared``.

    A receiver for all models would slow down the whole site: Django loads what it deletes if
    anybody listens.
    """
    if not apps.models_ready:
        return  # ``ready`` follows
    try:
        users = get_user_model()
    except ImproperlyConfigured:  # a site without users
        return
    if issubclass(sender, users):
        post_save.connect(free_on_new_password, sender, dispatch_uid="rustauth_django.login")
        post_save.connect(revoke_on_change, sender, dispatch_uid="rustauth_django.sessions")
        post_delete.connect(revoke_on_delete, sender, dispatch_uid="rustauth_django.sessions")


def watch_new_users(*, setting: str, **kwargs: Any) -> None:
    """A receiver of ``setting_changed``: another model is that of users."""
    if setting == "AUTH_USER_MODEL":
        watch_users()


class RustAuthConfig(AppConfig):
    name = "rustauth_django"
    verbose_name = _("Authentication state")

    def ready(self) -> None:
        user_login_failed.connect(count_failure, dispatch_uid="rustauth_django.login")
        user_logged_in.connect(forgive, dispatch_uid="rustauth_django.login")
        user_logged_in.connect(note_client, dispatch_uid="rustauth_django.sessions")
        request_started.connect(begin_request, dispatch_uid="rustauth_django.sessions")
        begin_async_requests(ASGIHandler)
        request_finished.connect(end_request, dispatch_uid="rustauth_django.sessions")
        watch_users()
        class_prepared.connect(watch_user, dispatch_uid="rustauth_django")
        setting_changed.connect(watch_new_users, dispatch_uid="rustauth_django")
        checks.register(check_settings)
        checks.register(check_debug)
        checks.register(check_audit)
        checks.register(check_logins)
        checks.register(check_peers)
        checks.register(check_allauth)
        checks.register(check_urls, checks.Tags.urls)
        checks.register(check_resets, checks.Tags.urls)
        checks.register(check_deployment, checks.Tags.security, deploy=True)

    @property
    def stores(self) -> RustAuthStores:
        """The stores of ``settings.RUSTAUTH``; connected when they are first asked."""
        return get_stores()

    @property
    def secondary_storage(self) -> SecondaryStorage:
        return self.stores.secondary_storage

    @property
    def rate_limit_store(self) -> RateLimitStore:
        return self.stores.rate_limit_store
