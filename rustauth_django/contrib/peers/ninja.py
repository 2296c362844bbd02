"""Peers for django-ninja: ``NinjaAPI(auth=peer_auth)``, or ``auth=apeer_auth`` for async ones."""

from typing import Any

from django.http import HttpRequest
from ninja.errors import HttpError

from ...connections import arun, run
from ...exceptions import BackendError
from ...limits.responses import PAGES
from .authentication import CsrfFailed, ahas_user, attach, authenticating, has_user


def peer_auth(request: HttpRequest) -> Any:
    """The user who is signed in at a peer, or None. 403 if the request may be forged, 503 if the
    peer cannot be asked.
    """
    try:
        found = run(authenticating(request))
    except (BackendError, CsrfFailed) as error:
        raise http_error(error) from None
    if not has_user(request):
        attach(request, found)
    return found and found[0]


async def apeer_auth(request: HttpRequest) -> Any:
    """The same, asynchronously."""
    try:
        found = await arun(authenticating(request))
    except (BackendError, CsrfFailed) as error:
        raise http_error(error) from None
    if not await ahas_user(request):
        attach(request, found)
    return found and found[0]


def http_error(error: Exception) -> HttpError:
    if isinstance(error, CsrfFailed):
        return HttpError(403, f"CSRF Failed: {error}")
    return HttpError(503, PAGES["503"].message)
