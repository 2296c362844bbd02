"""One account, one counter: however its name is written, and by whatever it is called."""

import json
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import path

from rustauth_django.connections import get_guard
from rustauth_django.contrib.auth import is_same_address
from rustauth_django.limits.keys import account_digest, account_key

from .site import Site

# Views of the async site are called in a thread of their own, and so is the database.
pytestmark = pytest.mark.django_db(transaction=True)

BACKENDS = ["rustauth_django.login.LoginProtection", f"{__name__}.Nobody"]
SETTINGS = {"ENABLED": True, "RULES": [{"path": "*", "disabled": True}]}


class Nobody(BaseBackend):
    """Takes anything, and finds nobody."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        return None


def sign_in(request: HttpRequest) -> HttpResponse:
    """With whatever is sent."""
    authenticate(request, **{"password": "wrong", **json.loads(request.body)})
    return HttpResponse(status=401)


urlpatterns = [path("sign-in/", sign_in)]


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture
def local(memory_site: Site) -> Site:
    memory_site.settings["AUTHENTICATION_BACKENDS"] = BACKENDS
    memory_site.configure(**SETTINGS)
    return memory_site


def attempts(site: Site, *sent: dict[str, Any]) -> list[int]:
    """From addresses all over the world."""
    return [
        site.post("/sign-in/", json=one, peer=f"192.0.2.{index}").status_code
        for index, one in enumerate(sent)
    ]


@pytest.mark.parametrize(
    "name",
    [{"username": 4711}, {"phone": "+49 30 1234"}, {"email": "ada@example.com"}, {"pin": 9}],
)
def test_whatever_names_an_account_counts(local: Site, name: dict[str, Any]) -> None:
    """A number, a telephone, a field of the site's own."""
    assert attempts(local, *[name] * 6) == [401] * 5 + [429]


@pytest.mark.parametrize("secret", [{"token": "x"}, {"api_key": "x"}, {"username": True}, {}])
def test_secrets_name_nobody(local: Site, secret: dict[str, Any]) -> None:
    """They count for the address alone."""
    assert attempts(local, *[secret] * 6) == [401] * 6
    assert [name for name in local.buckets() if name.startswith("account:")] == []


def test_a_name_counts_in_any_spelling(local: Site) -> None:
    """Of somebody whom the database does not know."""
    names = ["jose", "José", "ｊｏｓｅ", "jo\u200bse", " jos\u00e9 " + " " * 4_000, "jose"]
    assert attempts(local, *({"username": name} for name in names)) == [401] * 5 + [429]


def test_names_that_are_too_long_count_together(local: Site) -> None:
    """Nobody has one, and none escapes."""
    names = ["a" * (5_000 + index) for index in range(6)]
    assert attempts(local, *({"username": name} for name in names)) == [401] * 5 + [429]


def test_users_whose_names_look_alike_count_apart(local: Site) -> None:
    """Where the database tells them apart."""
    for name in ("jose", "jos\u00e9"):
        User.objects.create_user(name)
    sent = [{"username": "jose"}] * 6 + [{"username": "jos\u00e9"}]
    assert attempts(local, *sent) == [401] * 5 + [429, 401]


def test_a_user_keeps_the_count_under_a_new_name(local: Site) -> None:
    """It is the account's."""
    user = User.objects.create_user("ada")
    assert attempts(local, *[{"username": "ada"}] * 5) == [401] * 5
    user.username = "countess"
    user.save()
    assert attempts(local, {"username": "countess"}, {"username": "ada"}) == [429, 401]


@pytest.mark.parametrize("name", ["ada", "nobody"])
def test_an_attempt_takes_one_query(local: Site, name: str, django_assert_num_queries: Any) -> None:
    """Whether or not there is an account; and its key looks the same."""
    User.objects.create_user("ada")
    if local.runner:
        pytest.skip("queries are made in another thread there")
    with django_assert_num_queries(1):
        attempts(local, {"username": name})
    (key,) = (key for key in local.buckets() if key.startswith("account:"))
    assert len(key) == len("account:|login") + 64


def test_a_name_that_no_column_holds_counts(local: Site) -> None:
    """With a character that databases refuse."""
    assert attempts(local, *[{"username": "ada\x00"}] * 6) == [401] * 5 + [429]


def test_a_key_given_as_text_is_the_same_key() -> None:
    """Some code sets primary keys as they came from a URL."""
    visitors = get_guard().options.visitors
    assert account_key(account_digest(User(pk=7), visitors)) == account_key(
        account_digest(User(pk="7"), visitors)
    )
    assert account_key(account_digest(User(pk=7), visitors)) != account_key(visitors.typed("7"))


@pytest.mark.parametrize(
    ("typed", "on_file", "same"),
    [
        ("Mike@Example.org", "mike@example.org", True),
        ("\uff4dike@example.org", "mike@example.org", True),
        ("m\u0131ke@example.org", "mike@example.org", False),
        ("mike@example.org ", "mike@example.org", False),
        ("mi\u0301ke@example.org", "mike@example.org", False),
    ],
)
def test_a_magic_link_goes_to_the_address_that_was_typed(
    typed: str, on_file: str, same: bool
) -> None:
    """As Django compares them for a reset, whatever the database takes for the same."""
    assert is_same_address(typed, on_file) is same
