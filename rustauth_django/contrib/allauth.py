"""One limit on failed logins for django-allauth: this app's.

django-allauth counts failed logins by itself, before any authentication backend is asked: its form
then shows an error, without a 429, without ``Retry-After`` and without longer blocks, and
``rustauth_unblock`` frees nothing of it. With this adapter the protection of logins answers alone.

``ACCOUNT_ADAPTER = "rustauth_django.contrib.allauth.AccountAdapter"``, or ``LoginProtectionMixin``
before the base class of a site's own adapter. Wrong codes of a second factor stay counted by
django-allauth.
"""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest

from ..connections import get_guard
from ..limits.protection import is_protected


class LoginProtectionMixin:
    """Leaves the limit on failed logins to the backends of ``rustauth_django.login``."""

    protects_logins = True

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Count as django-allauth does on a site that has none of these backends."""
        if not (is_protected() and get_guard().options.enabled):
            super().pre_authenticate(request, **credentials)  # type: ignore[misc]


class AccountAdapter(LoginProtectionMixin, DefaultAccountAdapter):
    """django-allauth's own adapter, with this app's limit on failed logins."""
