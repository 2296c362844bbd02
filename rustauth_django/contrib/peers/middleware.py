"""Peers as middleware: native under WSGI and under ASGI."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_vary_headers

from ...connections import arun, get_feature, run
from ...exceptions import BackendError
from ...limits.rates import Uncounted
from ...limits.responses import refusal
from .authentication import Peers, attach, identifying

# Seconds after which to come back while a peer cannot be asked.
RETRY_AFTER = 1


class PeerSessionMiddleware:
    """Sets ``request.user`` and ``request.peer_session`` for whoever is signed in at a peer.

    Place it after ``AuthenticationMiddleware``. It looks when the view is about to be called, after
    Django's check of forged requests; ``request.peer_session`` is None until then.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        get_feature(Peers)  # a wrong setting stops the site here, as it starts
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
            # Django takes this attribute as it is: a coroutine function is awaited.
            self.process_view = self.aprocess_view  # type: ignore[method-assign,assignment]

    def __call__(self, request: HttpRequest) -> Any:
        request.peer_session = None  # type: ignore[attr-defined]  # it is ours
        if self.is_async:
            return self.__acall__(request)
        response = self.get_response(request)
        vary(request, response)
        return response

    async def __acall__(self, request: HttpRequest) -> Any:
        response = await self.get_response(request)
        vary(request, response)
        return response

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        try:
            attach(request, run(identifying(request, reads_body=not is_exempt(view))))
        except BackendError:
            return refusal(request, Uncounted(permitted=False, retry_after=RETRY_AFTER))
        return None

    async def aprocess_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        try:
            attach(request, await arun(identifying(request, reads_body=not is_exempt(view))))
        except BackendError:
            return refusal(request, Uncounted(permitted=False, retry_after=RETRY_AFTER))
        return None


def is_exempt(view: Any) -> bool:
    """Is a view exempt from Django's check? Then it may want to read the body by itself."""
    return bool(getattr(view, "csrf_exempt", False))


def vary(request: HttpRequest, response: HttpResponseBase) -> None:
    """Keep caches from showing one user's page to another. Django says so for the cookie of the
    session, where a view has looked at it; a bearer token may say who it is as well.
    """
    session = getattr(request, "session", None)
    if session is None or session.accessed:
        patch_vary_headers(response, ("Cookie", "Authorization"))
