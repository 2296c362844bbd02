"""The tree of this app's exceptions.

::

    RustAuthError
    ├── InvalidConfig          also ImproperlyConfigured and ValueError
    └── BackendError           the server answered with an error
        ├── BackendUnavailable the server could not serve: away, timed out,
        │                      loading, read-only, out of memory
        └── BackendOverloaded  this process asked for more at once than it has
                               connections; the server was not asked

``InvalidConfig`` is raised before any I/O. No error carries a value, a
password or a URL.
"""

from django.core.exceptions import ImproperlyConfigured


class RustAuthError(Exception):
    """Base of every error that this app raises on purpose."""


class InvalidConfig(RustAuthError, ImproperlyConfigured, ValueError):
    """A wrong setting or argument; the message says where, what, and what to write instead."""


class BackendError(RustAuthError):
    """The server refused or failed an operation.

    ``operation`` names it ("secondary get"), ``reason`` is the server's or the client library's own
    short text. ``key`` is the physical key, if the key is the problem. It may contain an address,
    so logs have ``reason`` alone.
    """

    def __init__(self, operation: str, reason: str, key: str | None = None) -> None:
        super().__init__(operation, reason, key)
        self.operation = operation
        self.reason = reason
        self.key = key

    def __str__(self) -> str:
        named = "" if self.key is None else f" (key {self.key!r})"
        return f"{self.operation} failed: {self.reason}{named}"


class BackendUnavailable(BackendError):
    """The server cannot serve at the moment; the same call may work later."""


class BackendOverloaded(BackendError):
    """This process has more calls at once than connections; the server is not the cause.

    The call was not sent.
    """
