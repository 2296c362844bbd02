"""Which user a session is of."""

from types import SimpleNamespace
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError


def user_id_of(pk: Any) -> str:
    """A user's primary key in the one spelling that its field has for it, whatever it came as: "7"
    for "007", lower case for a UUID.
    """
    try:
        field: Any = get_user_model()._meta.pk
        found = SimpleNamespace(**{field.attname: field.to_python(pk)})
        text: str = field.value_to_string(found)
    except (ImproperlyConfigured, ValidationError, TypeError, ValueError):
        return str(pk)  # a site without users, or not a key of its users
    return text
