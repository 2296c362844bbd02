"""Peers for Django REST framework."""

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from ...connections import run
from ...exceptions import BackendError
from ..rest_framework import Unavailable
from .authentication import CsrfFailed, attach, authenticating, has_user
from .middleware import RETRY_AFTER


class PeerAuthentication(BaseAuthentication):
    """The user who is signed in at a peer; ``request.auth`` is the ``PeerSession``.

    Unsafe methods with a cookie need Django's CSRF token, as with ``SessionAuthentication``.
    """

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        try:
            found = run(authenticating(request._request))
        except CsrfFailed as error:
            raise PermissionDenied(f"CSRF Failed: {error}") from None
        except BackendError:
            raise Unavailable(RETRY_AFTER) from None
        if not has_user(request._request):
            attach(request._request, found)
        # DRF adds them to the response.
        headers = getattr(request.parser_context.get("view"), "headers", {})
        headers["Vary"] = ", ".join(filter(None, (headers.get("Vary"), "Cookie, Authorization")))
        return found

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
