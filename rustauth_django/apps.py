"""The app, for ``INSTALLED_APPS``."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core import checks
from django.utils.translation import gettext_lazy as _

from .checks import check_deployment, check_settings, check_urls
from .connections import get_stores
from .login import count_failure, forgive
from .ratelimit import RateLimitStore
from .storage import SecondaryStorage
from .stores import RustAuthStores


class RustAuthConfig(AppConfig):
    name = "rustauth_django"
    verbose_name = _("Authentication state")

    def ready(self) -> None:
        user_login_failed.connect(count_failure, dispatch_uid="rustauth_django.login")
        user_logged_in.connect(forgive, dispatch_uid="rustauth_django.login")
        checks.register(check_settings)
        checks.register(check_urls, checks.Tags.urls)
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
