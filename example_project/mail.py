"""Mails go to the console and, while the process lasts, to a page."""

from collections import deque
from datetime import datetime
from typing import Any

from django.core.mail.backends import console
from django.utils import timezone

# The latest first.
outbox: deque[tuple[datetime, Any]] = deque(maxlen=20)


class EmailBackend(console.EmailBackend):
    """The console, as people read it rather than as it is sent, and ``outbox``."""

    def write_message(self, message: Any) -> None:
        to = ", ".join(message.to)
        self.stream.write(f"To: {to}\nSubject: {message.subject}\n\n{message.body}\n")
        outbox.appendleft((timezone.now(), message))
