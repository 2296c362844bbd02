"""The session of the request that is being handled, for code that has no request at hand.

It belongs to its request: it begins and ends with it, under WSGI, under ASGI and in Django's test
clients. Outside of a request there is none. Contexts are copied, between tasks and into threads,
and may outlive a request on a connection that is kept alive. So a context only refers to the scope,
and the end of the request empties the scope itself.
"""

from contextvars import ContextVar
from sys import modules
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.signals import request_started


class Scope:
    """A request: the first session that is made in it is its own."""

    __slots__ = ("is_over", "session")

    def __init__(self) -> None:
        self.session: Any = None
        self.is_over = False


_scope: ContextVar[Scope | None] = ContextVar("rustauth_django_request", default=None)
_async_senders: set[Any] = set()
_async_test_clients: list[Any] = []


def begin_request(*, sender: Any, **kwargs: Any) -> None:
    """A receiver of ``request_started``."""
    _scope.set(Scope())
    is_handler = isinstance(sender, type) and sender not in _async_senders
    if is_handler and iscoroutinefunction(sender.__call__):
        begin_async_requests(sender)


def begin_async_requests(sender: Any) -> None:
    """Have the requests of this ASGI handler begin in their own context."""
    _async_senders.add(sender)
    request_started.connect(_begin_async_request, sender=sender)


@markcoroutinefunction
def _begin_async_request(**kwargs: Any) -> Any:
    """A receiver of ``request_started`` that is no coroutine function, though it says so.

    Before Django 6.1, ``asend`` runs receivers in contexts of their own, and what they set there is
    lost. But it calls the asynchronous ones in the context of the request.
    """
    _scope.set(Scope())
    return _nothing()


async def _nothing() -> None:
    """What is awaited."""


def end_request(**kwargs: Any) -> None:
    """A receiver of ``request_finished``."""
    scope = _scope.get()
    if scope is not None:
        scope.session, scope.is_over = None, True


def begin_session(session: Any) -> None:
    """Note a session that was made; outside of a request it is nobody's."""
    if not _async_test_clients and "django.test.client" in modules:
        # Tests sign in before they send a request, and the first one is to be known as well.
        _async_test_clients.append(modules["django.test.client"].AsyncClientHandler)
        begin_async_requests(_async_test_clients[0])
    scope = _scope.get()
    if scope is not None and scope.session is None and not scope.is_over:
        scope.session = session


def current_session() -> Any:
    """The session of the current request, or None."""
    scope = _scope.get()
    return None if scope is None else scope.session
