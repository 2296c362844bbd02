"""The limiter as middleware: native under WSGI and under ASGI, never through a thread."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase

from .attempts import settle
from .conf import of_django, session_cookie
from .connections import get_guard
from .limits.devices import COOKIE
from .limits.guard import after, is_to_be_rendered
from .limits.logins import LOGINS_ATTRIBUTE, logins_of
from .limits.protection import require_protection
from .sessions import SessionStore


class RateLimitMiddleware:
    """Limits every request that resolves to a view; a 404 consumes nothing (MW-14).

    Place it after ``CsrfViewMiddleware``, so that a forged form does not use up its victim's
    limits. It decides when the view is about to be called, after other middleware has set
    ``request.user``.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        # A wrong setting stops the site here, as it starts.
        names = get_guard().options.login.names
        require_protection(of_django("SILENCED_SYSTEM_CHECKS"), names)
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
            # Django takes this attribute as it is: a coroutine function is awaited,
            # a plain one would be sent to a thread.
            self.process_view = self.aprocess_view  # type: ignore[method-assign,assignment]

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self.__acall__(request)
        setattr(request, LOGINS_ATTRIBUTE, None)
        response = self.get_response(request)
        note_visit(request)
        if getattr(request, LOGINS_ATTRIBUTE):
            guard = get_guard()
            guard.run(settle(guard, request, response))
            remember(request, response)
        # What a streamed body does later is not settled.
        delattr(request, LOGINS_ATTRIBUTE)
        response = after(request, response)
        return response.render() if is_to_be_rendered(response) else response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        setattr(request, LOGINS_ATTRIBUTE, None)
        response = await self.get_response(request)
        note_visit(request)
        if getattr(request, LOGINS_ATTRIBUTE):
            guard = get_guard()
            await guard.arun(settle(guard, request, response))
            remember(request, response)
        # What a streamed body does later is not settled.
        delattr(request, LOGINS_ATTRIBUTE)
        response = after(request, response)
        if is_to_be_rendered(response):
            # In a thread, as Django does it: a template may query the database.
            return await sync_to_async(response.render, thread_sensitive=True)()
        return response

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        guard = get_guard()
        return guard.run(guard.before(request, view))

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """A login stays counted if its view raises."""
        logins = getattr(request, LOGINS_ATTRIBUTE, None)
        if logins and not isinstance(exception, PermissionDenied | Http404):
            logins.has_crashed = True

    async def aprocess_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        guard = get_guard()
        return await guard.arun(guard.before(request, view))


def note_visit(request: HttpRequest) -> None:
    """Let the session know where it is seen; it is saved by Django's middleware, which is before
    this one.
    """
    session = getattr(request, "session", None)
    if isinstance(session, SessionStore):
        session.visited_by(request)


def remember(request: HttpRequest, response: HttpResponseBase) -> None:
    """Set the device cookie if somebody has signed in."""
    value, age = logins_of(request).device_cookie, get_guard().options.login.device_age
    if value is not None:
        response.set_cookie(COOKIE, value, max_age=age, httponly=True, **session_cookie())
