"""The signals of this app. An exception of a receiver is logged and changes nothing."""

from django.dispatch import Signal

#: A request was refused: ``request``, ``decision``, ``name`` of the limit. Sender: its view.
rate_limited = Signal()
#: A request would have been refused, had the limit not been a shadow. The same arguments.
rate_limit_shadowed = Signal()
#: An attempt to sign in was refused before its password was checked: ``request``, ``what`` is
#: blocked ("account", "address" or "device"), the ``user`` or None, ``decision``. Sender: the user
#: model.
login_blocked = Signal()
#: A failed attempt began a block, with the same arguments; ``decision`` says how long it lasts. The
#: ``user`` of an address is None.
login_locked = Signal()
#: The server stopped or began to answer: ``available``, ``location``, ``error`` or None.
#: Sender: the class ``Limiter``.
backend_state_changed = Signal()
#: A ``user`` signed in: ``session`` is a ``SessionInfo``, and ``is_new_device`` says that the
#: browser had no valid device cookie of this user. Sender: the class of the user, here and below.
session_started = Signal()
#: A session came from another address or with another user agent than the last time: ``user``,
#: ``session``, and ``before``, where it was seen last, with an ``address`` and an ``agent``.
session_moved = Signal()
#: Sessions of a ``user`` were ended before their time: ``count`` of them, with these ``ids``. The
#: ``reason`` is "revoked" by a function, "password_changed", "user_deactivated", "user_deleted",
#: "too_many" of them, or "operator", who used a command.
sessions_revoked = Signal()
