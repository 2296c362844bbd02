"""The app, for ``INSTALLED_APPS``."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core import checks
from django.core.signals import request_started
from django.db.models.signals import post_delete, post_save
from django.utils.translation import gettext_lazy as _

from .attempts import count_failure, forgive, free_on_new_password
from .checks import (
    check_allauth,
    check_audit,
    check_debug,
    check_deployment,
    check_logins,
    check_resets,
    check_settings,
    check_urls,
)
from .connections import get_stores
from .limits.store import RateLimitStore
from .sessions import forget_current, note_client, revoke_on_change, revoke_on_delete
from .storage import SecondaryStorage
from .stores import RustAuthStores


class RustAuthConfig(AppConfig):
    name = "rustauth_django"
    verbose_name = _("Authentication state")

    def ready(self) -> None:
        user_login_failed.connect(count_failure, dispatch_uid="rustauth_django.login")
        user_logged_in.connect(forgive, dispatch_uid="rustauth_django.login")
        user_logged_in.connect(note_client, dispatch_uid="rustauth_django.sessions")
        request_started.connect(forget_current, dispatch_uid="rustauth_django.sessions")
        post_save.connect(free_on_new_password, dispatch_uid="rustauth_django.login")
        post_save.connect(revoke_on_change, dispatch_uid="rustauth_django.sessions")
        post_delete.connect(revoke_on_delete, dispatch_uid="rustauth_django.sessions")
        checks.register(check_settings)
        checks.register(check_debug)
        checks.register(check_audit)
        checks.register(check_logins)
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
